"""Record the messages of one run: what `tests/data/stream.json` holds. Python and JavaScript both assert it."""

from __future__ import annotations

import base64
import heapq
from typing import Any

from bench import synthetic as syn
from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import PHASES, Phase
from flyte_nb.core.history.store import RunStore
from flyte_nb.views.browser.patches import Message, PatchStream
from flyte_nb.views.printed import html
from flyte_nb.views.run_model import RunModel
from tests.views.printed import reading as printed


def story() -> list[ev.Event]:
    """A nested run, and beside it a map of 60 with a failure and log lines, merged by time."""
    nested = [e for e in syn.nested("r1") if not isinstance(e, ev.RunClosed)]
    mapped = [
        e for e in syn.mapped(60, 2, run="r1", slots=4, logs=True) if not isinstance(e, (ev.RunOpened, ev.RunClosed))
    ][1:]
    merged = list(heapq.merge(nested, sorted(mapped, key=when), key=when))
    return [*merged, ev.RunClosed("r1", Phase.FAILED, syn.T0 + 2.5)]


def when(event: ev.Event) -> float:
    return event.lines[0].at if isinstance(event, ev.Logged) else event.at  # type: ignore[union-attr]


def record() -> dict[str, Any]:
    """Messages as sent, a patch every 40 events, and the picture that they must add up to."""
    store = RunStore()
    events = story()
    store.append(events[0])
    now = [syn.T0]
    model = RunModel(store.runs["r1"], lambda: now[0])
    patches = PatchStream(model)
    messages = [wire(patches.snapshot())]
    for at in range(1, len(events), 40):
        chunk = events[at : at + 40]
        store.extend(chunk)
        now[0] = max(now[0], when(chunk[-1]))
        message = patches.patch()
        assert message is not None
        messages.append(wire(message))
    run = store.runs["r1"]
    expected = {
        "counts": [run.count(phase) for phase in PHASES],
        "phases": {a.name: a.phase.code for a in run.actions.values()},
        "groups": {key: len(group.members) for key, group in run.groups.items()},
        "heat": base64.b64encode(run.groups["a0/g:score"].phases).decode(),
        "errors": [[len(fold.names), fold.text] for fold in model.errors.most()],
        "log_lines": run.logs.total,
        "ended": 2.5,
        "shown": printed.read(html.render(model)),
    }
    return {"messages": messages, "expected": expected}


def wire(message: Message) -> dict[str, Any]:
    return {"content": message.content, "buffers": [base64.b64encode(b).decode() for b in message.buffers]}
