"""A browser tab, and a local account that looks around: what they get of a running kernel. See SECURITY.md."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kernel.kernelclient import Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

DEFINE = r"""
%load_ext flyte_nb
import asyncio, os, tempfile
import flyte_nb as flyte
env = flyte.TaskEnvironment("demo")

@env.task
async def say(x: int) -> int:
    print("a\x1b]52;c;aGk=\x07b\x9d0;title\x9cc\u202ed")
    return x + 1

@env.task
async def large(a: object) -> object:
    await asyncio.sleep(0.2)
    return a

assert await asyncio.gather(*(say(i) for i in range(5))) == [1, 2, 3, 4, 5]
"""
#: What the browser may ask for, and what it never does.
OPS = (
    "ready", "snapshot", "visible_rows", "query", "detail", "logs", "timeline", "report", "download", "peek", "cancel_run",
    "cancel_action", "retry_run", "retry_action", "resume", "raise", "signal", "stack", "attach", "debug", "compare", "runs", "eval", "__class__", "",
)  # fmt: skip


@pytest.fixture(scope="module", name="nb")
def _nb() -> Iterator[Kernel]:
    with Kernel.start() as kernel:
        kernel.run(DEFINE).ok()
        yield kernel


def test_forged_messages_are_data(nb: Kernel, tmp_path: Path) -> None:
    """Whatever a page sends under the names that ours uses: nothing of it is evaluated, opened or imported."""
    mark = tmp_path / "mark"
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    texts = (code, "../../../../etc/passwd", "a" * 1_000_000, "\x1b]0;x\x07", "a1", "r1")
    nb.run("from flyte_nb.kernel.session import Session; await asyncio.gather(*(large(i) for i in range(4)))").ok()
    nb.run("view = [*Session.current.shown.views.values()][-1]").ok()
    uid = str(nb.run("view.uid").ok().result).strip("'")
    for number, (op, text) in enumerate(itertools.product(OPS, texts)):
        args = dict.fromkeys(
            ("action", "value", "text", "answer", "run", "tab", "group", "name", "task", "error", "sort", "line"), text
        )
        content = {"op": op, "args": args, "nonce": f"n{number}", "comm_id": uid}
        nb.control("flyte_ui", content)
    broken: tuple[dict[str, object], ...] = (
        {},
        {"op": ["x"], "args": 3},
        {"op": "detail", "args": None, "nonce": 5, "comm_id": {}},
    )
    for each in broken:
        nb.control("flyte_ui", each)

    assert uid
    nb.run("while view.stats['commands'] < 100: await asyncio.sleep(0.05)").ok()
    assert "8" == nb.run("await say(7)").ok().result
    assert not mark.exists()


def test_nothing_that_lies_about_can_be_read_by_others(nb: Kernel) -> None:
    """No file in a folder that others can enter, no key on a disk or on a command line, no value in the environment."""
    nb.run(
        "import numpy as np; a = np.arange(1_000_000); r = await asyncio.gather(*(large.aio(a) for _ in range(3)))"
    ).ok()
    roots = nb.run("import flyte_nb.core.transport.process_folder as pf; [str(p) for p in pf.roots()]").ok().result
    processes = [psutil.Process(nb.pid), *psutil.Process(nb.pid).children(recursive=True)]
    numbers = {process.pid for process in processes}
    folders = [
        path
        for root in {root.strip("' ") for root in str(roots).strip("[]").split(",")}
        for path in Path(root).glob("flyte_nb-*")
        if any(f"-{number}-" in path.name for number in numbers)
    ]
    assert {0o700} == {path.stat().st_mode & 0o777 for path in folders}
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        # Dask's lock files are empty, and lie in a folder that nobody else can enter.
        assert 0o600 == path.stat().st_mode & 0o777 or not path.stat().st_size
        assert b"PRIVATE KEY" not in path.read_bytes()[:100_000]
    for process in processes:
        assert "PRIVATE KEY" not in " ".join([*process.cmdline(), *process.environ().values()])


def test_logs_are_shown_without_what_a_terminal_obeys(nb: Kernel) -> None:
    """`%flyte logs` is text; `--raw` shows what was printed."""
    assert "abcd" == nb.run("%flyte logs r1/a1").ok().stdout.strip()
    assert "\x1b]52;c;aGk=\x07" in nb.run("%flyte logs r1/a1 --raw").ok().stdout
