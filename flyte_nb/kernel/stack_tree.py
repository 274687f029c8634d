"""Tree of a run's unfinished actions, on one screen: who awaits whom, and where each is. Runs in: engine thread."""

from __future__ import annotations

import linecache
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flyte_nb.core.attempts.stacks import Stack, format_stack
from flyte_nb.core.history.columns import Group
from flyte_nb.core.history.facts import TERMINAL_CODES, Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.runs.engine import ROOT

#: Lines of a tree: one screen.
MAX_LINES = 45
#: Members of a group that are shown; the others are counted.
MAX_MEMBERS = 4
#: Calls inside calls that are shown.
MAX_STACK_DEPTH = 12


class Look(NamedTuple):
    """Stacks of a run's actions, and slots of the workers, at this moment."""

    stacks: Mapping[str, Stack]
    #: Slots of the workers that answered, and how many of them are free.
    slots: int
    free: int
    workers: int


def gather(answers: list[dict[str, Any]]) -> Look:
    """Put the workers' answers together."""
    stacks: dict[str, Stack] = {}
    for answer in answers:
        stacks.update(answer["stacks"])
    shown = {name: _with_lines(stack) for name, stack in stacks.items()}
    return Look(shown, sum(a["slots"] for a in answers), sum(a["free"] for a in answers), len(answers))


def _with_lines(stack: Stack) -> Stack:
    """The same stack, with the text of the notebook's lines: a worker has their numbers only."""
    found = (f if f.line else f._replace(line=linecache.getline(f.filename, f.lineno).strip()) for f in stack.frames)
    return stack._replace(frames=tuple(found))


def tree(record: RunRecord, look: Look, now: float) -> str:
    """All unfinished actions of a run: who awaits whom, and where each is."""
    state = record.state
    unfinished = _unfinished_count(record)
    if state.ended_at is not None or not unfinished:
        return f"{state.run} {state.title}: {state.phase.value}; nothing of it executes."
    lines = [f"{state.run} {state.title}: {unfinished:,} unfinished for {now - state.started_at:.1f} s"]
    root = record.actions.get(ROOT)
    if root is not None:
        lines += (_children if state.kind == "cell" else _subtree)(record, root, look, now, 1)
    if len(lines) > MAX_LINES:
        more = f"... {len(lines) - MAX_LINES + 1} more lines: `%flyte stack a17` shows one action"
        lines = [*lines[: MAX_LINES - 1], more]
    busy = look.slots - look.free
    lines.append(f"{look.workers} worker{'s' * (look.workers != 1)}: {busy} of {look.slots} slots compute")
    return "\n".join(lines)


def action_text(record: RunRecord, action: Action, look: Look, now: float) -> str:
    """One action: its Python stack, and the unfinished actions that it waits for."""
    lines = [f"{record.state.run}/{_line(action, None, now)}"]
    stack = look.stacks.get(action.name)
    if stack is not None:
        lines.append(format_stack(stack))
    elif action.phase is Phase.RUNNING:
        lines.append("its worker did not say where it is: it has just ended, or its worker is not reachable")
    below = _children(record, action, look, now, 1)
    if below:
        lines += ["awaits:", *below[:MAX_LINES]]
    return "\n".join(lines)


def _unfinished_count(record: RunRecord) -> int:
    own = record.state.kind != "cell" and record.state.ended_at is None
    return sum(action.number > 0 for action in record.actions.unended()) + own


def _subtree(record: RunRecord, action: Action, look: Look, now: float, depth: int) -> list[str]:
    lines = ["  " * depth + _line(action, look.stacks.get(action.name), now)]
    if depth < MAX_STACK_DEPTH:
        lines += _children(record, action, look, now, depth + 1)
    return lines


def _children(record: RunRecord, action: Action, look: Look, now: float, depth: int) -> list[str]:
    lines: list[str] = []
    for key in record.children.get(action.name, ()):
        group = record.groups[key]
        going = sorted(_going(record, group), key=lambda a: (a.phase.urgency, a.number))
        for child in going[:MAX_MEMBERS]:
            lines += _subtree(record, child, look, now, depth)
        if len(going) > MAX_MEMBERS:
            rest = going[MAX_MEMBERS:]
            counts = {p: sum(a.phase is p for a in rest) for p in dict.fromkeys(a.phase for a in rest)}
            counted = ", ".join(f"{n:,} {phase.value}" for phase, n in counts.items())
            lines.append("  " * depth + f"... and {counted} of {group.label}")
    return lines


def _going(record: RunRecord, group: Group) -> Iterator[Action]:
    going = [at for at, code in enumerate(group.phases) if code not in TERMINAL_CODES]
    return (record.actions[group.members[at]] for at in going)


def _line(action: Action, stack: Stack | None, now: float) -> str:
    since = action.started_at if action.phase is Phase.RUNNING else action.queued_at
    took = f" for {now - since:.1f} s" if since and not action.phase.is_terminal else ""
    place = ""
    if action.attempt is not None and action.phase is Phase.RUNNING:
        place = f" on {name_of(action.attempt.worker)}"
    text = f"{action.id} {action.label}: {action.phase.value.replace('_', ' ')}{took}{place}"
    if action.note and not action.phase.is_terminal:
        text += f", {action.note}"
    if stack is not None:
        text += f", at {stack.where}" if stack.where else ""
        text += f", waits for {stack.waits_for}" if stack.waits_for else ""
    return text
