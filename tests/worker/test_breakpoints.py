"""An attempt at a breakpoint, and those that ask: a notebook, and pages that show its run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from flyte_nb.worker.breakpoints import PausedAttempt


def test_whoever_asks_is_answered() -> None:
    """Though another asks before its answer is there, or the debugger is detached."""
    host = SimpleNamespace(post=lambda function, *args: function(*args))
    paused = PausedAttempt(
        cast("Any", SimpleNamespace(host=host, bodies={})), cast("Any", SimpleNamespace(work=None)), 1.0
    )
    answers: dict[str, Any] = {}
    paused.attach(lambda answer: answers.setdefault("first", answer), {}, hold=False)
    paused.write("printed for the first")
    paused.type(lambda answer: answers.setdefault("second", answer), "p x")
    paused.type(lambda answer: answers.setdefault("third", answer), "n")
    assert (answers["first"]["text"], answers["first"]["state"]) == ("printed for the first", "prompt")
    assert answers["second"]["text"] == ""
    paused.detach()
    assert answers["third"]["state"] == "left"
