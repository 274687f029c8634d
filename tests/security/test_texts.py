"""A task, or whoever feeds one: what its texts can do to a terminal, a page, a saved notebook. See SECURITY.md."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from html import unescape

import pytest

import flyte_nb as flyte
from flyte_nb.core.failures import traceback_text
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import ErrorNote, LogLine, Phase
from flyte_nb.core.history.store import RunRecord, RunStore
from flyte_nb.core.values.describe import label_of, plain
from flyte_nb.kernel.cells.tracker import title_of
from flyte_nb.views.browser import rows
from flyte_nb.views.printed import html, text
from flyte_nb.views.printed.console import ConsoleTree
from flyte_nb.views.printed.lines import PlainLines
from flyte_nb.views.run_model import RunModel

#: The clipboard, the title, a link, a colour, in 7 and 8 bits; a null; text that reads backwards; half a character.
EVIL = (
    "a\x1b]52;c;aGk=\x07b\x9d0;title\x9cc\x1b]8;;http://evil\x1b\\d\x1b[31me\x9b31mf\x00g\u202eh\u2066i\x85j\x1bPq\x1b\\k\ud800"
    "\x1b(Bl\u2028m"
)
ALLOWED = re.compile(
    r"[\n\t\x20-\x7e\xa0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufff8\U00010000-\U0010ffff]*"
)
SECRETS = ("s3cr3tpw9", "ghp_0123456789abcdefghijklmn", "hunter22hunter22")
TOLD = "postgres://joe:s3cr3tpw9@host/db ghp_0123456789abcdefghijklmn password='hunter22hunter22'"


def run_of(word: str) -> Iterator[ev.Event]:
    """A run in which every text is this one."""
    yield ev.RunOpened("r1", word, "cell", 0.0)
    for number, label in enumerate((word, "b", "c")):
        name = f"n{number}"
        yield ev.ActionQueued("r1", name, "a0", f"env.{word}", label, word, 1.0)
        yield ev.ActionNoted("r1", name, 1, Phase.PAUSED, 1.0, word)
        yield ev.AttemptStarted("r1", name, 0, 1.0, "w", 1, "0")
        yield ev.Logged("r1", name, 0, (LogLine(1.0, "stdout", word),))
        error = ErrorNote("user", word if word == EVIL else "ValueError", word, word)
        yield ev.ActionEnded("r1", name, 2, Phase.FAILED, 2.0, error)
    yield ev.Reported("r1", "n0", "main", f"<p>{TOLD}</p><img src='http://evil/x.png'>")
    yield ev.RunClosed("r1", Phase.FAILED, 3.0)


def model_of(word: str) -> RunModel:
    """The model of `run_of`."""
    store = RunStore()
    events = list(run_of(word))
    store.append(events[0])
    model = RunModel(store.runs["r1"], lambda: 3.0)
    store.extend(events[1:])
    model.take(last=True)
    return model


def printed(surface: type[PlainLines | ConsoleTree], word: str) -> str:
    """What a terminal or a pipe gets of `run_of`."""
    store, stream = RunStore(), io.StringIO()
    events = list(run_of(word))
    store.append(events[0])
    shown = surface(RunModel(store.runs["r1"], lambda: 3.0), stream)
    shown.open()
    store.extend(events[1:])
    shown.update()
    shown.close()
    return stream.getvalue()


def test_nothing_is_left_that_a_terminal_obeys() -> None:
    """Sequences go whole, with what they carry; tabs and line ends stay."""
    assert "abcdefghijklm" == plain(EVIL)
    assert "a\tb\nc" == plain("a\tb\nc")
    odd = type("Odd", (), {"__call__": lambda _self: 1, "__name__": EVIL})()
    assert "f(abc)" == label_of("f", ((odd,), {}))
    assert "end\nnext" == plain("10%\r20%\rend\r\nnext")


def test_terminals_and_pipes_get_text_only() -> None:
    """Whatever carries it: title, task, label, group, note, log line, error, place, note of an exception."""
    error = ValueError(EVIL)
    error.add_note(EVIL)
    shown = [
        printed(PlainLines, EVIL), text.screen(model_of(EVIL)), html.render(model_of(EVIL)),
        "\n".join(traceback_text.render(error)), "\n".join(traceback_text.render_group(ExceptionGroup(EVIL, [error]))),
    ]  # fmt: skip
    for each in shown:
        assert ALLOWED.fullmatch(each), re.sub(ALLOWED, "", each)[:200]
        assert "52;c" not in each
    # The tree moves the cursor by itself.
    tree = printed(ConsoleTree, EVIL)
    assert not re.search("\x1b\\]|[\x80-\x9f\u202e\u2066\u2028]|52;c", tree)


def test_what_a_notebook_saves_has_no_secret_by_its_shape() -> None:
    """Labels, titles, notes, messages, log lines, groups and reports of the static picture; rows of the live one."""
    model = model_of(TOLD)
    label = label_of(
        "login", ((TOLD, {"password": "hunter22hunter22"}, ["x" * 30, TOLD[:33]]), {"a": TOLD}), ("x", "y")
    )
    record: RunRecord = model.record
    shown = [
        html.render(model), text.screen(model), label, title_of(f"login({TOLD!r})"), title_of(f"# {TOLD}"),
        str(rows.row(record, record.actions["n0"], rows.Workers()).get("note")), str(rows.header(record, [], 0, None)["title"]),
    ]  # fmt: skip
    for each, secret in itertools.product(shown, SECRETS):
        assert secret not in unescape(each), (secret, each[:2_000])
    assert "***" in label


def test_a_frame_of_a_report_reaches_no_network() -> None:
    """It has no script and no origin (`sandbox`), and a policy that comes before its own markup."""
    frames = re.findall(r'<iframe sandbox="" srcdoc="([^"]*)"', html.render(model_of("x")))

    assert 1 == len(frames)
    policy = unescape(frames[0])
    assert policy.startswith('<meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert "connect-src" not in policy
    assert "script-src" not in policy
    assert "<img src='http://evil/x.png'>" in policy  # the browser refuses it


@pytest.mark.parametrize("length", [256, 100_000])
def test_names_are_bounded_where_they_are_given(length: int) -> None:
    """Tasks, overrides, environments, groups, conditions, functions: a sentence that says how long a name may be."""
    long = "a" * length
    env = flyte.TaskEnvironment("e")

    @env.task
    async def f(x: int) -> int:
        return x

    def misnamed(x: int) -> int:
        return x

    misnamed.__name__ = misnamed.__qualname__ = long
    attempts = [
        lambda: env.task(short_name=long)(misnamed), lambda: f.override(short_name=long), lambda: flyte.TaskEnvironment(long),
        lambda: flyte.group(long).__enter__(), lambda: env.task(misnamed), lambda: flyte.trace(misnamed),
        lambda: flyte.report.Report("r").get_tab(long), lambda: flyte.with_runcontext(name=long),
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(ValueError, match=rf"has {length:,} characters, 'aaaa.*may have 255"):
            attempt()
    with flyte.group("b" * 255):
        pass
