"""The messages between owners of actions and the workers that execute them. Runs in: both ends of a link.

A message is a tuple whose first item names it; a link carries lists of them, pickled together. An *owner* is a kernel, or a
worker whose action awaits children. Every message is one line here, with its fields:

owner -> host (worker)
    ("run", RunInfo)                            what all actions of a run know; before its first bundle
    ("bundle", lane, [Work, ...])               execute these in that lane
    ("cancel", key, why, grace)                 end an attempt early: why is "cancelled" or "timeout"; grace in seconds
    ("close", lane)                             the lane is not needed any more
    ("forget", run)                             the run is over: drop what is kept for it
    ("roster", {address: WorkerInfo})           who is in the cluster
host -> owner
    ("lane", lane, "open")                      the lane's thread has a slot
    ("ended", lane, [Outcome, ...])             attempts that ended
    ("returned", lane, [key, ...])              not begun: they waited behind a long one; run them elsewhere
    ("ready", lane)                             it has room again after it returned work
    ("progress", lane, started, finished, busy, blocked)   counters of a lane, for sizing bundles
    ("closed", lane)                            the lane has ended by itself
    ("began", key)                              an attempt with a max_queued_time has begun
    ("events", [Event, ...])                    to the run's home: what happened
both ways
    ("ask", number, op, args)                   a question, see `flyte_nb.engine.questions`
    ("answer", number, value)                   its answer
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

Message = tuple[Any, ...]


class WorkerInfo(NamedTuple):
    """A Dask worker, as the roster tells."""

    address: str
    name: str
    nthreads: int
    pid: int
    host: str
    resources: tuple[tuple[str, float], ...] = ()


class LaneSpec(NamedTuple):
    """What the Dask task of a lane is given."""

    #: Unique over all owners.
    lane: str
    #: Peer that sends it work.
    owner: str
    #: The task, pickled by value.
    task: bytes
    task_name: str
    is_async: bool


def encode(messages: Iterable[Message]) -> bytes:
    """Messages as one piece."""
    return pickle.dumps(list(messages), 5)


def decode(data: bytes) -> list[Message]:
    """Messages from one piece."""
    return pickle.loads(data)  # type: ignore[no-any-return]
