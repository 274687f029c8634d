"""Search in a run's actions and log lines, sorted, a slice at a time. Runs in: engine thread.

100,000 actions take about 50 ms to look through. The engine thread has other work, so both functions are coroutines that
yield to the loop every `SLICE` actions.
"""

from __future__ import annotations

import array
import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from flyte_nb.core.history.facts import PHASES, Action, Phase
from flyte_nb.core.history.store import RunRecord
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.values.describe import plain
from flyte_nb.views.equal_errors import ErrorFolds
from flyte_nb.views.labels import Labels
from flyte_nb.views.run_model import NamedLine, is_implied
from flyte_nb.views.words import error_line, ran, ran_itself

#: Actions looked at before the loop has its turn: about 2 ms, and 10 where they are rows.
SLICE = 2_000
#: Log lines looked at before the loop has its turn: about 2 ms.
LOG_SLICE = 2_000
#: Log lines found that are sent.
MAX_FOUND_LINES = 1_000
#: Levels of lines, the least first; what is printed has none.
LEVELS = ("debug", "info", "warning", "error", "critical")
#: Results sent: more than anyone scrolls through; the number of all results is stated.
MAX_RESULTS = 20_000


@dataclass(frozen=True, slots=True)
class Query:
    """What a reader is looking for."""

    #: Words that all must occur in the label, the task or the error, whatever the case; "a17" finds that action, "task:fit"
    #: those of a task, ">2s" and "<50ms" those that took longer or shorter.
    text: str = ""
    #: Phases wanted; none: all.
    phases: frozenset[Phase] = frozenset()
    #: Full task name; "": all.
    task: str = ""
    #: Key of an error fold; "": all.
    error: str = ""
    #: "order", "state" (failed first), "label", "task", "duration" (`ran_itself`) or "worker".
    sort: str = "order"
    descending: bool = False


class Found(NamedTuple):
    """What was found."""

    #: Numbers of the actions, in order, at most `MAX_RESULTS`.
    numbers: array.array[int]
    #: How many there are in all.
    total: int
    #: Of each, the seconds by which they are sorted; none where they are sorted by anything else.
    took: array.array[float]


def parse_query(args: Mapping[str, Any]) -> Query:
    """A `Query` from a browser's message; what is malformed is left out."""

    def text(key: str) -> str:
        value = args.get(key)
        return value[:500] if isinstance(value, str) else ""

    states = args.get("states")
    codes = [c for c in states if isinstance(c, int) and 0 <= c < len(PHASES)] if isinstance(states, list) else []
    return Query(
        text=text("text").strip(), phases=frozenset(PHASES[c] for c in codes), task=text("task"), error=text("error"),
        sort=text("sort") or "order", descending=args.get("desc") is True,
    )  # fmt: skip


async def search(record: RunRecord, query: Query, errors: ErrorFolds, now: float) -> Found:
    """Actions by a query, sorted."""
    matches = _matcher(query, now)
    fold = errors.get(query.error) if query.error else None
    candidates: Sequence[str] = record.numbered
    if query.error:
        candidates = [action.name for action in fold.ordered()] if fold is not None else []
    key = _sort_key(record, query.sort, now)
    found: list[tuple[Any, int]] = []
    count = 0
    for start in range(0, len(candidates), SLICE):
        for name in candidates[start : start + SLICE]:
            action = record.actions[name]
            if matches(action) and not is_implied(record, action):
                count += 1
                found.append((key(action) if key is not None else count, action.number))
        found.sort(key=itemgetter(0), reverse=query.descending)  # of a million, the others are not kept
        del found[MAX_RESULTS:]
        await asyncio.sleep(0)
    took = [seconds for seconds, _ in found] if query.sort == "duration" else []
    return Found(array.array("I", [number for _, number in found]), count, array.array("f", took))


_TOOK = re.compile(r"([<>])(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNITS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _matcher(query: Query, now: float) -> Callable[[Action], bool]:
    words = query.text.casefold().split()
    timed = filter(None, map(_TOOK.fullmatch, words))
    limits = [(found[1] == ">", float(found[2]) * _UNITS[found[3] or ""]) for found in timed]
    tasks = [word[5:] for word in words if word.startswith("task:")]
    words = [word for word in words if not (_TOOK.fullmatch(word) or word.startswith("task:"))]
    number = int(words[0][1:]) if len(words) == 1 and words[0][:1] == "a" and words[0][1:].isdigit() else -1

    def matches(action: Action) -> bool:
        if query.phases and action.phase not in query.phases:
            return False
        if query.task and action.task != query.task:
            return False
        if any(task not in action.task.casefold() for task in tasks):
            return False
        if limits and not _took_between(action, limits, now):
            return False
        if not words or action.number == number:
            return True
        hay = f"{action.label} {action.task} {action.group}".casefold()
        if action.error is not None:
            hay += " " + error_line(action).casefold()
        return all(word in hay for word in words)

    return matches


def _took_between(action: Action, limits: list[tuple[bool, float]], now: float) -> bool:
    took = ran(action, now)
    return took is not None and all(took > limit if longer else took < limit for longer, limit in limits)


def _sort_key(record: RunRecord, sort: str, now: float) -> Callable[[Action], Any] | None:
    keys: dict[str, Callable[[Action], Any]] = {
        "state": lambda action: (action.phase.urgency, action.number),
        "label": lambda action: action.label,
        "task": lambda action: (action.task, action.number),
        "duration": lambda action: ran_itself(record, action, now),
        "worker": lambda action: _by_name(name_of(action.attempt.worker)) if action.attempt else (0, ""),
    }
    return keys.get(sort)


def _by_name(name: str) -> tuple[int, str]:
    """Has w2 come before w10."""
    return len(name), name


async def search_log(record: RunRecord, known: Labels, text: str, level: str = "") -> tuple[list[NamedLine], int]:
    """Lines of all actions, by time: the last `MAX_FOUND_LINES`, and how many there are.

    Args:
        record: The run.
        known: Its labels as they are shown.
        text: What a line holds, or its action's label, as it is or as it is shown; "a17": lines of that action, too.
        level: One of `LEVELS`: lines of this one and above; anything else: all.
    """
    wanted = text.casefold()
    streams = LEVELS[LEVELS.index(level) :] if level in LEVELS else None
    found: list[NamedLine] = []
    seen = 0
    for name in record.logs.actions():
        whole = _is_called(record.actions.get(name), known, wanted)
        for line in list(record.logs.of(name)):
            seen += 1
            if (streams is None or line.stream in streams) and (whole or wanted in plain(line.text).casefold()):
                found.append((name, line))
            if seen % LOG_SLICE == 0:
                await asyncio.sleep(0)
    found.sort(key=lambda pair: pair[1].at)
    return found[-MAX_FOUND_LINES:], len(found)


def _is_called(action: Action | None, known: Labels, wanted: str) -> bool:
    if action is None:
        return False
    labels = (action.label, known.named(action.name, action.label) or action.task)
    return action.id == wanted or any(wanted in label.casefold() for label in labels)
