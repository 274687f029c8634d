"""What a reader sees of an action's values: text, tables, pictures; read on a thread that can be given up."""

from __future__ import annotations

import asyncio
import base64
import re
import threading

import pandas as pd
import pytest

import flyte_nb as flyte
from flyte_nb.kernel.details import _failure
from flyte_nb.kernel.operations import buttons
from flyte_nb.kernel.shown_values import previews
from flyte_nb.kernel.shown_values.previews import MAX_TEXT, Reader, show, text_of
from flyte_nb.views.browser.replies import Replies
from flyte_nb.views.printed.html import render
from flyte_nb.views.printed.text import screen
from flyte_nb.views.run_model import RunModel
from tests.kernel.kernelclient import ROOT, Kernel


class Shown:
    """A value with a picture, or a page."""

    def __init__(self, **offers: object) -> None:
        self.offers = offers

    def _repr_png_(self) -> object:
        return self.offers.get("png")

    def _repr_html_(self) -> object:
        return self.offers.get("html")

    def __repr__(self) -> str:
        raise ValueError("no text")


PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 20


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (pd.DataFrame({"a": [1]}), "table"),
        (pd.Series([1, 2]), "table"),
        (Shown(png=PNG), "png"),
        (Shown(png=base64.b64encode(PNG).decode()), "png"),
        (Shown(png=(PNG, {})), "png"),
        (Shown(html="<b>x</b>"), "html"),
        (Shown(png=b"no png"), "text"),
        (Shown(html=42), "text"),
        (Shown(), "text"),
        ({"a": 1}, "text"),
    ],
)
def test_a_value_is_shown_as_it_offers(value: object, kind: str) -> None:
    """A table before a picture before a page before text; what is none of these is not taken for one."""
    shown = show(value)

    assert {"text"} | {kind} == set(shown)
    assert isinstance(shown["text"], str)


@pytest.mark.parametrize(
    "value", ["x" * 10**7, list(range(10**6)), [["y" * 10**5] * 100], {i: i for i in range(10**5)}]
)
def test_text_is_bounded(value: object) -> None:
    """Whatever the value is."""
    assert MAX_TEXT + 100 > len(text_of(value))


def test_secrets_are_not_shown() -> None:
    """Neither by name nor by shape."""
    assert "hunter2" not in show("hunter2", "password")["text"]
    assert "hunter2" not in show(["postgres://me:hunter2@host/db"])["text"]


def test_a_repr_that_raises_says_so() -> None:
    """The panel shows the error's name."""
    assert "its repr raised ValueError: no text" in text_of(Shown())


async def test_a_reader_goes_on_without_what_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given up after a while; the next value has another thread; after a few, none is read until one ends."""
    reader = Reader()
    free = threading.Event()

    def late() -> str:
        free.wait()
        return "late"

    try:
        assert "value" == await reader.read(lambda: "value", str)
        monkeypatch.setattr(previews, "WITHIN", 0.05)
        for _ in range(previews.MAX_STUCK):
            assert "longer than" in await reader.read(late, str)
        assert "earlier values" in await reader.read(lambda: "value", str)
        monkeypatch.setattr(previews, "WITHIN", 30.0)
        free.set()
        async with asyncio.timeout(10):
            while "value" != await reader.read(lambda: "value", str):  # noqa: ASYNC110 - the end of a thread tells no one.
                await asyncio.sleep(0.01)
    finally:
        free.set()
        reader.close()


def test_every_command_that_the_view_sends_is_answered() -> None:
    """What js/ sends is a request that the view answers, or a button that an operation serves."""
    source = "".join(path.read_text() for path in (ROOT / "js" / "src").rglob("*.ts"))
    sent = set(re.findall(r'''(?:command|request|send|ask)\((?:\w+, )?"([a-z_]+)"''', source))
    replies = Replies.__new__(Replies)
    Replies.__init__(replies, None, None, lambda *_: None)  # type: ignore[arg-type]
    asked = {op for op in sent if replies.answers(op)}

    assert {"detail", "query", "logs", "download", "timeline", "report", "peek"} <= asked
    assert {"cancel_run", "cancel_action", "retry_failed", "retry_action", "raise", "resume", "stack", "signal"} <= sent
    assert {"ready", "snapshot"} == sent - asked - buttons().keys()


@pytest.mark.kernel
@pytest.mark.cluster
def test_old_views_close_their_widgets_and_can_be_shown_again() -> None:
    """Of runs that ended, a bounded number keeps a widget; `%flyte show` makes another for an older one."""
    with Kernel.start() as kernel:
        kernel.run("%load_ext flyte_nb").ok()
        kernel.run(
            "import asyncio\nimport flyte_nb as flyte\nfrom flyte_nb.kernel import session, shown_views\n"
            "shown_views.MAX_ENDED_VIEWS = 3\nenv = flyte.TaskEnvironment('many')\n"
            "@env.task\nasync def one(x: int) -> int:\n    await asyncio.sleep(0.2)\n    return x\n"
        ).ok()
        for _ in range(6):
            kernel.run("await asyncio.gather(one(1), one(2))").ok()
        current = "session.Session.current"
        assert (
            "['r4', 'r5', 'r6']"
            == kernel.run(f"{current}.gateway.ask(lambda: list({current}.shown.views))").ok().result
        )
        watched = f"{current}.gateway.ask(lambda: [len(r.subscribers) for r in {current}.store.runs.values()])"
        assert "[0, 0, 0, 1, 1, 1]" == kernel.run(watched).ok().result
        kernel.run("%flyte show r1").ok()

        assert (
            "['r5', 'r6', 'r1']"
            == kernel.run(f"{current}.gateway.ask(lambda: list({current}.shown.views))").ok().result
        )


refusing = flyte.TaskEnvironment("refusing")


@refusing.task
def gives_a_list(n: int) -> str:
    return list(range(n))  # type: ignore[return-value]


@pytest.mark.parametrize(("n", "shown"), [(3, "[0, 1, 2]"), (200_000, "")])
def test_a_result_that_was_refused_is_shown_with_its_error(n: int, shown: str) -> None:
    """It was computed; what is large is not kept."""
    run = flyte.with_runcontext("local").run
    with pytest.raises(flyte.errors.RuntimeDataValidationError):
        run(gives_a_list, n)
    action = flyte.last_run().actions[0]
    assert action.error is not None
    found = _failure(action.error.record)
    assert "expected str" in found["failure"]["text"]
    assert shown == found.get("output", {"text": ""})["text"]
    model = RunModel(flyte.last_run().control.known())
    model.take()
    for picture in (render(model), screen(model)):  # saved, and as text
        assert "expected str, got [0, 1, 2" in picture
