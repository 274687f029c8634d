"""Secrecy of the journal: arguments that go by a secret's name are not recorded, nor secrets in texts. Runs in: its thread."""

from __future__ import annotations

from flyte_nb.core.history import events as ev
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.values import redact


def hides_inputs(task: str, label: str) -> bool:
    """Whether the arguments of a call are not to be kept: one of them goes by a secret's name."""
    if redact.MASK in label:
        return True
    found = REGISTRY.latest(task)
    return found is not None and any(redact.hides(name, "x") for name in found.input_names)


def without_secrets(event: ev.Event, secrets: tuple[str, ...]) -> ev.Event:
    """The event as it may be kept, without these; failure records and labels are masked where they are made."""
    if type(event) is ev.ActionQueued:
        if event.inputs is not None and hides_inputs(event.task, event.label):
            return event._replace(inputs=None)
    elif type(event) is ev.Logged:
        return event._replace(lines=tuple(line._replace(text=redact.scrub(line.text, secrets)) for line in event.lines))
    elif type(event) is ev.Reported:
        return event._replace(html=redact.scrub(event.html, secrets))
    return event
