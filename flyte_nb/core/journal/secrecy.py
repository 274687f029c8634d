"""Secrecy of the journal: arguments that go by a secret's name are not recorded, nor secrets in texts. Runs in: its thread."""

from __future__ import annotations

import functools

from flyte_nb.core.history import events as ev
from flyte_nb.core.tasks.registry import REGISTRY
from flyte_nb.core.values import redact


def hides_inputs(task: str, label: str) -> bool:
    """Whether the arguments of a call are not to be kept: one of them goes by a secret's name."""
    return redact.MASK in label or _takes_secrets(task)


def _takes_secrets(task: str) -> bool:
    found = REGISTRY.latest(task)
    return found is not None and any(redact.hides(name, "x") for name in found.input_names)


def without_secrets(events: list[ev.Event], secrets: tuple[str, ...]) -> list[ev.Event]:
    """Events as they may be kept, without these; failure records and labels are masked where they are made."""
    takes_secrets = functools.cache(_takes_secrets)  # thousands of one task are queued at once
    kept = list(events)
    for at, event in enumerate(kept):
        if isinstance(event, ev.ActionQueued):
            if event.inputs is not None and (redact.MASK in event.label or takes_secrets(event.task)):
                kept[at] = event._replace(inputs=None)
        elif isinstance(event, ev.Logged):
            lines = tuple(line._replace(text=redact.scrub(line.text, secrets)) for line in event.lines)
            kept[at] = event._replace(lines=lines)
        elif isinstance(event, ev.Reported):
            kept[at] = event._replace(html=redact.scrub(event.html, secrets))
    return kept
