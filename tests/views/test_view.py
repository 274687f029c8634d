"""The view's driver: handshake, fall-back, end, commands."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser import live_widget
from flyte_nb.views.printed import page
from flyte_nb.views.surface import WIDGET_MIME, Mode, choose_mode
from flyte_nb.views.view import View
from tests.views.conftest import Board


class FakeWidget:
    """What the view needs of a widget."""

    uid = "w1"

    def __init__(self, *_: object) -> None:
        self.sent: list[tuple[dict[str, Any], list[bytes] | None]] = []
        self.closed = False
        self.arrived = asyncio.Event()

    def bundle(self, html: str, text: str) -> dict[str, Any]:
        return {"text/plain": text, "text/html": html, WIDGET_MIME: {"model_id": "m"}}

    def send(self, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        self.sent.append((content, buffers))
        self.arrived.set()

    def close(self) -> None:
        self.closed = True

    def kinds(self) -> list[str]:
        return [content["kind"] for content, _ in self.sent]

    async def reply(self) -> dict[str, Any]:
        while not self.sent or self.sent[-1][0]["kind"] != "reply":
            self.arrived.clear()
            await asyncio.wait_for(self.arrived.wait(), 10)
        return self.sent[-1][0]


@pytest.fixture
def widgets(monkeypatch: pytest.MonkeyPatch) -> list[FakeWidget]:
    """Widgets that views make from now on; views offer theirs at once, and wait but a moment for an answer."""
    made: list[FakeWidget] = []

    def make(*_: object) -> FakeWidget:
        made.append(FakeWidget())
        return made[-1]

    monkeypatch.setattr(live_widget, "make_widget", make)
    monkeypatch.setattr(live_widget, "LIVE_AFTER", 0.0)
    return made


def opened(store: RunStore, n: int = 3) -> tuple[list[ev.Event], Any]:
    events = list(syn.mapped(n, 0))
    store.extend(events[: n + 2])
    return events, store.runs["r1"]


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is awaited is a flush, which tells no one.
            await asyncio.sleep(0.01)


async def test_live_view_is_replayed_when_the_browser_is_ready(
    store: RunStore, board: Board, widgets: list[FakeWidget]
) -> None:
    """Nothing is sent before `ready`; then a replay, then patches that follow its number."""
    events, record = opened(store)
    view = View(record, display=board)
    assert "<View r1 [widget, not started, 0 actions]>" == repr(view)
    view.start()
    await until(lambda: widgets)
    assert [] == widgets[0].sent
    view.handle("ready", {}, "n1")
    assert "<View r1 [widget, live, 3 actions]>" == repr(view)
    assert "<LiveWidget r1 [answered, 1 output]>" == repr(view.surface)
    store.extend(events[5:])
    await until(lambda: "patch" in widgets[0].kinds())
    view.finish()
    assert "<View r1 [widget, finished, 3 actions]>" == repr(view)

    assert "replay" == widgets[0].kinds()[0]
    numbered = [content["seq"] for content, _ in widgets[0].sent if "seq" in content]
    assert list(range(1, len(numbered) + 1)) == numbered


async def test_end_state_has_no_widget(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """What stays in the notebook is HTML and text; the browser is told that it lives on over it."""
    events, record = opened(store)
    view = View(record, display=board)
    view.start()
    await until(lambda: widgets)
    view.handle("ready", {}, "n1")
    store.extend(events[5:])
    view.finish()

    assert {"text/html", "text/plain", "id"} == set(board.updates[-1])
    assert "3 done" in board.updates[-1]["text/plain"]
    assert "final" == widgets[0].kinds()[-1]
    assert not widgets[0].closed


async def test_silent_front_end_gets_html(
    store: RunStore, board: Board, widgets: list[FakeWidget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing answers, HTML is updated in place, and the widget comes back should a browser answer late."""
    monkeypatch.setattr(live_widget, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(page, "HTML_EVERY", 0.02)
    events, record = opened(store)
    view = View(record, display=board)
    view.start()
    await until(lambda: view.mode is Mode.HTML)
    assert "<LiveWidget r1 [page only, 1 output]>" == repr(view.surface)
    store.extend(events[5:])
    await until(lambda: "3 done" in board.updates[-1]["text/plain"])
    assert WIDGET_MIME not in board.updates[-1]
    view.handle("ready", {}, "n1")

    assert Mode.WIDGET is view.mode
    assert WIDGET_MIME in board.updates[-1]
    assert "replay" == widgets[0].kinds()[0]
    view.finish()


async def test_quick_run_is_html_at_once(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """A run of one action that ends before a widget was offered has its final line before `finish` returns, and no widget."""
    store.extend(syn.one_action())
    view = View(store.runs["r1"], display=board)
    view.start()
    view.finish()

    assert "✓ r1 succeeded" in board.updates[-1]["text/plain"]
    assert [] == widgets


async def test_quick_run_with_more_to_see_is_offered_a_widget_afterwards(
    store: RunStore, board: Board, widgets: list[FakeWidget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is static first (a runner without browser keeps that); without an answer it is static again, and the widget gone."""
    monkeypatch.setattr(live_widget, "ANSWER_WITHIN", 0.02)
    monkeypatch.setattr(live_widget, "GIVE_UP_AFTER", 0.02)
    store.extend(syn.nested())
    view = View(store.runs["r1"], display=board)
    view.start()
    view.finish()
    assert WIDGET_MIME not in board.updates[0]
    await until(lambda: widgets and widgets[0].closed)

    assert WIDGET_MIME in board.updates[1]
    assert WIDGET_MIME not in board.updates[2]


async def test_run_is_shown_in_two_places(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """Shown again while it runs it is one more live output of the same widget; at the end both are static."""
    events, record = opened(store)
    view = View(record, display=board)
    view.start()
    await until(lambda: widgets)
    other = Board()
    view.also(other)
    assert WIDGET_MIME in other.published[0]
    store.extend(events[5:])
    view.handle("ready", {}, "n1")
    view.finish()
    late = Board()
    view.also(late)

    assert 1 == len(widgets)
    assert board.updates[-1]["id"] != other.updates[-1]["id"]
    for one in (board, other):
        assert WIDGET_MIME not in one.updates[-1]
        assert "3 done" in one.updates[-1]["text/plain"]
    assert WIDGET_MIME not in late.published[0]


async def test_commands_of_others_are_handed_on(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """Cancel and its like go to `control`; their result is the reply. Without `control` the session is asked."""
    _, record = opened(store)
    asked: list[tuple[str, dict[str, Any]]] = []

    async def control(op: str, args: Any, _nonce: str) -> dict[str, str]:
        asked.append((op, dict(args)))
        return {"text": "3 cancelled"}

    view = View(record, display=board, control=control)
    view.start()
    await until(lambda: widgets)
    assert view.handle("cancel_run", {"run": "r1"}, "n7")
    reply = await widgets[0].reply()
    view.finish()

    assert [("cancel_run", {"run": "r1"})] == asked
    assert {"kind": "reply", "to": "n7", "text": "3 cancelled"} == reply
    assert not View(record, display=board).handle("cancel_run", {}, "n8")


@pytest.mark.parametrize("op", ["detail", "logs", "query", "timeline", "report", "download", "peek"])
@pytest.mark.parametrize(
    "args", [{"action": "r", "tab": "main", "group": "a0/g:score", "index": 1}, {"action": 7, "index": "x"}, {}]
)
async def test_every_request_is_answered_or_refused(
    store: RunStore, board: Board, widgets: list[FakeWidget], op: str, args: dict[str, Any]
) -> None:
    """Whatever a browser sends, the view answers with data or with an error, and goes on."""
    store.extend(syn.mapped(5, 1))
    view = View(store.runs["r1"], display=board)
    view.start()
    await until(lambda: widgets)
    view.handle(op, {**args, **({"action": "a1"} if args.get("action") == "r" else {})}, "n1")
    if op != "peek" or args.get("index") == 1:
        reply = await widgets[0].reply()
        assert "n1" == reply["to"]
    view.finish()


async def test_detail_tells_what_the_store_knows(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """Attempts, times, error, path, log, and what the session adds."""

    class More:
        async def detail(self, run: str, action: str) -> dict[str, Any]:
            return {
                "inputs": [{"name": "x", "text": "y" * 100_000}],
                "failure": {"frames": [{"file": "a.py", "line": 3}], "text": "T"},
            }

        def log_text(self, run: str, action: str | None) -> str:
            return ""

    store.extend(syn.nested())
    view = View(store.runs["r1"], display=board, details=More())
    view.start()
    await until(lambda: widgets)
    number = next(a.number for a in store.runs["r1"].actions.values() if a.label.startswith("impute('apac'"))
    view.handle("detail", {"action": f"a{number}"}, "n1")
    detail = (await widgets[0].reply())["detail"]
    view.finish()

    assert [False, True] == [attempt["ok"] for attempt in detail["attempts"]]
    assert ["pipeline('2026-Q3')", "clean('apac')"] == [label for _, label in detail["path"]]
    assert "retrying against replica" == detail["log"]["head"][0][3]
    assert len(detail["inputs"][0]["text"]) <= 20_000
    assert 3 == detail["failure"]["frames"][0]["line"]


async def test_pipe_gets_lines_and_a_terminal_a_tree(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place decides how a run is shown; one switch asks for plain output."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("FLYTE_NB_NONINTERACTIVE", raising=False)
    modes = [choose_mode(None, io.StringIO()), choose_mode(None, Terminal()), choose_mode(Board(), None)]
    monkeypatch.setenv("FLYTE_NB_NONINTERACTIVE", "1")
    plain = [choose_mode(None, Terminal()), choose_mode(Board(), None)]

    assert [Mode.LINES, Mode.CONSOLE, Mode.WIDGET] == modes
    assert [Mode.LINES, Mode.HTML] == plain


async def test_lines_are_written_to_the_end(store: RunStore) -> None:
    """A view on a pipe has written the result when `finish` returns; a closed pipe silences it."""
    out = io.StringIO()
    store.extend(syn.one_action())
    view = View(store.runs["r1"], stream=out)
    view.start()
    view.finish()
    assert "✓ r1 succeeded in 0.06 s: 1 done · await square(3)\n" == out.getvalue().splitlines(keepends=True)[-1]

    closed = io.StringIO()
    closed.close()
    silent = View(store.runs["r1"], stream=closed, mode=Mode.LINES)
    silent.start()
    silent.finish()
    assert Mode.SILENT is silent.mode


async def test_closed_view_watches_no_more(store: RunStore, board: Board, widgets: list[FakeWidget]) -> None:
    """A view that was closed leaves no change set behind that would grow."""
    _, record = opened(store)
    view = View(record, display=board)
    view.start()
    await until(lambda: widgets)
    view.close()

    assert [] == record.subscribers
    assert widgets[0].closed
    assert Phase.RUNNING is record.state.phase


async def test_run_that_ends_before_its_first_flush_is_offered_a_widget_afterwards(
    store: RunStore, board: Board, widgets: list[FakeWidget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is worth a live view is judged by the run's end, not by what the last flush had seen."""
    monkeypatch.setattr(live_widget, "LATE_AFTER", 0.01)
    events = list(syn.mapped(3, 0))
    store.append(events[0])
    view = View(store.runs["r1"], display=board)
    view.start()
    store.extend(events[1:])
    view.finish()
    await until(lambda: widgets)

    assert WIDGET_MIME in board.updates[-1]
    view.close()
