"""Registry of this process's tasks: the latest of each name, and its earlier code. Runs in: where tasks are defined.

A notebook redefines tasks. Retrying and replaying an action take the code that its task's name has *now*; and an action that
is executed again must still find the results of its children, whose names were made with the code of *then*.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from flyte_nb.core.control.calls import TaskSpec
from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.settings.config import TaskConfig
from flyte_nb.core.settings.notices import announce
from flyte_nb.core.values.code_hash import code_version

#: Task names remembered; a notebook defines dozens. The name defined longest ago goes first.
MAX_TASK_NAMES = 2_000
#: Versions of one name remembered: after a hundred edits of a cell, what is retried ran minutes ago.
MAX_VERSIONS = 100


class Version(NamedTuple):
    """What a task's name meant from a moment on."""

    #: Seconds since the epoch.
    since: float
    #: `Task.identity`: name, interface and code.
    identity: str


class NamedTask(TaskSpec, Protocol):
    """What the registry knows of a task: `flyte_nb.core.tasks.task.Task`, which is above it."""

    #: Full name, interface and code: what names of its calls are derived from.
    identity: str

    def became(self, new: Any) -> None:
        """Become another task, if an edited module was read again."""


class Registry:
    """Tasks by full name."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, NamedTask] = OrderedDict()
        self._versions: dict[str, list[Version]] = {}

    def add(self, task: NamedTask) -> None:
        """Register a task that was defined: its name means this one from now on."""
        before = self._latest.get(task.name)
        if before is not None and before is not task:
            before.became(task)
        self._latest[task.name] = task
        self._latest.move_to_end(task.name)
        versions = self._versions.setdefault(task.name, [])
        if not versions or versions[-1].identity != task.identity:
            versions.append(Version(time.time(), task.identity))
            del versions[:-MAX_VERSIONS]
        while len(self._latest) > MAX_TASK_NAMES:
            name, _ = self._latest.popitem(last=False)
            del self._versions[name]

    def __iter__(self) -> Iterator[NamedTask]:
        """The latest task of each name."""
        return iter(list(self._latest.values()))

    def latest(self, name: str) -> Any:
        """The `Task` that was defined last under a full name; None if there is none."""
        return self._latest.get(name)

    def aliases(self, since: float) -> tuple[tuple[str, str], ...]:
        """Which code stands in for which: (identity now, identity that the name had at `since`) of every name redefined after.

        `since` is when a run began, in seconds since the epoch.
        """
        found = {}
        for versions in self._versions.values():
            before = [version for version in versions if version.since <= since]
            first = before[-1] if before else versions[0]
            for version in versions[versions.index(first) :]:
                if version.identity != first.identity:
                    found[version.identity] = first.identity
        return tuple(found.items())


REGISTRY = Registry()


def links_of(action: Action, run: RunInfo) -> list[tuple[str, str]]:
    """(name, address) of each link of an action: those of its call, else of its task as that is defined now."""
    if action.links is not None:
        return list(action.links)
    task = REGISTRY.latest(action.task)
    return _addresses(task.config.links, run, action.name, action.parent) if task is not None else []


def links_given(task: Any, run: RunInfo, action: str, parent: str = "") -> tuple[tuple[str, str], ...] | None:
    """The links that a call's task has in place of those it was defined with; None: it has those."""
    return tuple(_addresses(task.config.links, run, action, parent)) if "links" in task.overrides else None


def _addresses(links: Iterable[Any], run: RunInfo, action: str, parent: str) -> list[tuple[str, str]]:
    """Of each link; one that fails gives its error as text."""
    found = []
    for link in links:
        name = str(getattr(link, "name", type(link).__name__))
        try:
            address = link.get_link(
                run_name=run.name, project=run.project, domain=run.domain, context={},
                parent_action_name=parent, action_name=action, pod_name="",
            )  # fmt: skip
        except Exception as exc:  # the user's code
            address = f"({type(exc).__name__}: {exc})"
        found.append((name, str(address)))
    return found


def announce_defined(config: TaskConfig) -> None:
    """Log the notices that are due when a task runs, and those of all tasks of this process: it may call any, elsewhere."""
    announce(config)
    for task in REGISTRY:
        announce(task.config)


def version_of(task: str) -> str:
    """A version of a task's code as it is now, helpers included; "" if it is not known here."""
    found: Any = REGISTRY.latest(task)
    if found is None:
        return ""
    try:
        return code_version(found.func)
    except Exception:  # what the user's objects raise
        return ""


#: By task: the code that was sent of it last (`flyte_nb.core.transport.code_versions.CodeVersion`), and its version.
_sent: weakref.WeakKeyDictionary[Any, tuple[weakref.ref[Any], str]] = weakref.WeakKeyDictionary()


def version_sent(task: str) -> str:
    """`version_of`, as of the latest call; not computed again for the same code, since that may take 0.1 s."""
    found: Any = REGISTRY.latest(task)
    memo = found.code_memo if found is not None else None
    if memo is None:
        return version_of(task)
    known = _sent.get(found)
    if known is None or known[0]() is not memo.version:
        known = _sent[found] = (weakref.ref(memo.version), version_of(task))  # large globals of old versions must go
    return known[1]
