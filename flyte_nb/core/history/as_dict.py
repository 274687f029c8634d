"""A run or an action as plain values: the dictionary that Flyte makes of its messages (``to_dict()``). Runs in: everywhere."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from flyte_nb.core.history.facts import Action
from flyte_nb.core.history.run_info import RunInfo

_TYPES = {"trace": "ACTION_TYPE_TRACE", "condition": "ACTION_TYPE_CONDITION"}
_KINDS = {"user": "KIND_USER", "system": "KIND_SYSTEM"}


class AsDict:
    """Of runs and actions: themselves as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """What is known of it now, by Flyte's names, in values that JSON has."""
        raise NotImplementedError

    def to_json(self) -> str:
        """As `to_dict`, as text."""
        return json.dumps(self.to_dict(), indent=2, default=str)


def action_dict(info: RunInfo, action: Action) -> dict[str, Any]:
    """What is known of an action: ``id``, ``metadata``, ``status``, and ``errorInfo`` where it failed.

    Args:
        info: Its run's.
        action: Its facts.
    """
    environment, _, function = action.task.rpartition(".")
    task = {"id": {"org": info.org, "project": info.project, "domain": info.domain, "name": action.task}}
    metadata = {
        "parent": action.parent, "group": action.group, "task": {**task, "shortName": function},
        "actionType": _TYPES.get(action.kind, "ACTION_TYPE_TASK"), "environmentName": environment, "funtionName": function,
    }  # fmt: skip
    started, ended = action.started_at or action.queued_at, action.ended_at
    status = {
        "phase": f"ACTION_PHASE_{action.phase.name}", "startTime": _time(started), "endTime": _time(ended),
        "attempts": action.attempt.number + 1 if action.attempt else 0,
        "cacheStatus": "CACHE_HIT" if action.cached else "",
        "durationMs": str(round((ended - started) * 1000)) if ended else "",
    }  # fmt: skip
    error = action.error
    failure = {"message": error.message, "kind": _KINDS.get(error.kind, ""), "code": error.code} if error else {}
    run = {"org": info.org, "project": info.project, "domain": info.domain, "name": info.name}
    identity = {"run": run, "name": action.name}
    return _without_empty({"id": identity, "metadata": metadata, "status": status, "errorInfo": failure})


def run_dict(info: RunInfo, root: Action | None) -> dict[str, Any]:
    """What is known of a run: its root action, as of `action_dict`, and its labels."""
    return _without_empty({"action": action_dict(info, root) if root else {}, "labels": dict(info.labels)})


def _time(seconds: float | None) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z") if seconds else ""


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    # As protocol buffers are shown: what is not set is not there.
    shown = {name: _without_empty(part) if isinstance(part, dict) else part for name, part in value.items()}
    return {name: part for name, part in shown.items() if part not in ("", {}, 0)}
