"""Bars of progress that tasks print or draw are recognised."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console
from rich.progress import Progress

from flyte_nb.core.attempts.progress import read_bar, read_drawing

BARS = {
    "12/60 [====>.........................] - ETA: 2s - loss: 0.3": (12, 60, "ETA: 2s - loss: 0.3", ""),
    "\x1b[1m12/60\x1b[0m \x1b[32m━━━━\x1b[0m\x1b[37m━━━━\x1b[0m \x1b[1m0s\x1b[0m 12ms/step": (12, 60, "0s 12ms/step", ""),
    "Epoch 3:  45%|████▌     | 45/100 [00:01<00:01, 40.1it/s, v_num=0]": (
        45, 100, "Epoch 3: [00:01<00:01, 40.1it/s, v_num=0]", "",
    ),
    "   ━━━━━━━━━━━━━━━╸━━━━━ 6.6/12.1 MB 21.3 MB/s eta 0:00:01": (6.6e6, 12.1e6, "21.3 MB/s eta 0:00:01", "B"),
    "Downloading ━━━━━━━━━━━━━━━━╺━━━━━━━━━  40% 0:00:03": (40, 100, "Downloading 0:00:03", "%"),
    "  7%|▋  | 7.00k/100k [00:00<?, ?it/s]": (7_000, 100_000, "[00:00<?, ?it/s]", ""),
    "[########......]  53%": (53, 100, "", "%"),
}  # fmt: skip


@pytest.mark.parametrize("line", BARS)
def test_a_bar_is_read(line: str) -> None:
    """Of tqdm, Keras, Lightning, pip, rich."""
    assert read_bar(line) == BARS[line]


@pytest.mark.parametrize(
    "line", ["[5/10] Linking", "2026/11/27 done", "loss 0.1 [2000/10000]", "see https://a.b/c/40%"]
)
def test_other_lines_are_no_bars(line: str) -> None:
    """Fractions and shares alone do not make one."""
    assert read_bar(line) is None


def test_what_rich_draws_is_read_from_its_tasks() -> None:
    """Where output is no terminal it prints nothing before its end."""
    with Progress(console=Console(file=io.StringIO())) as shown:
        shown.advance(shown.add_task("[red]Fetch[/red]", total=10), 10)
        shown.advance(shown.add_task("Train", total=4), 3)
        [thread] = [each for each in threading.enumerate() if type(each).__module__ == "rich.live"]
        assert read_drawing(thread) == (3.0, 4, "Train", "")
    thread.join(10)
    assert read_drawing(thread) is None
