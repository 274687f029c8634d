"""The message table: what owners of actions and the workers that execute them send to each other. Runs in: both ends of a link.

A message is a plain tuple (quick to make, to pickle and to unpack) whose first item names it; a link carries lists of them,
pickled together. An *owner* is a kernel, or a worker whose action awaits children. The tables below are types: mypy holds every
send to them, and `handlers_of` every receiver, when it is made. To add a message, add its line here, an ``_on_<name>`` to the
receiver, and send it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args, get_origin

from flyte_nb.core.control.rows import Ends
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.events import Event, Labels
from flyte_nb.core.history.facts import Phase
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.core.transport.payload import Payload

#: An attempt: run, action, number of the attempt.
Key: TypeAlias = tuple[str, str, int]


class WorkerInfo(NamedTuple):
    """A Dask worker, as the roster lists it."""

    address: str
    nthreads: int
    #: Whether it takes what asks for a device and has none (the embedded cluster's on a machine without).
    pretends_devices: bool = False
    #: Dask resources that it offers.
    offers: tuple[tuple[str, float], ...] = ()
    #: "w0", as people see it.
    name: str = ""


class LaneSpec(NamedTuple):
    """What the Dask task of a lane is given."""

    #: Unique over all owners.
    lane: str
    #: Peer that sends it work.
    owner: str
    task_name: str
    is_async: bool
    #: Whether the owner counts attempts of it that await children: of a warm environment, or one that needs devices.
    is_warm: bool
    #: Seconds that a message to it and back takes, if that is long: what waits behind another attempt waits longer.
    round_trip: float = 0.0
    #: GPUs that it holds.
    gpus: int = 0


class RowBundle(NamedTuple):
    """Alike attempts, next to each other among the rows of their owner (`flyte_nb.core.control.rows`)."""

    #: Of the rows, at their owner.
    number: int
    run: str
    parent: str
    group: str
    #: As of `Work`.
    on_failure: str
    version: str
    #: As of `flyte_nb.core.history.events.CallsQueued`, of these.
    suffix: str
    labels: Labels
    #: The first one's row.
    low: int
    names: bytes
    payloads: list[bytes]


class ReturnedRows(NamedTuple):
    """Rows that a lane gives back."""

    number: int
    rows: array[int]
    #: Whether their owner asked for them; else one takes long.
    recalled: bool


# Each line: the message's name and the types of its fields; then its fields, and what it means.

#: Owner -> host (worker).
ToHost: TypeAlias = (
    tuple[Literal["run"], RunInfo]  # what all actions of a run know; before its first bundle, and when it has changed
    | tuple[Literal["cancel"], Key, str, float]  # attempt, why ("cancelled" or "timeout"), grace in s: end it early
    # attempt, number: items of it that its consumer has taken so far; -1: it wants no more
    | tuple[Literal["took"], Key, int]
    | tuple[Literal["close"], str]  # lane: it is not needed any more
    | tuple[Literal["far"], str, float]  # lane, seconds of the way to it and back, if that is long: it has changed
    | tuple[
        Literal["recall"], str, int
    ]  # lane, number of rows: give back those that have not begun; they are cancelled
    | tuple[Literal["forget"], str]  # run: it is over, drop what is kept for it
    # from the kernel: whether these are all workers, or changes (None: it has left); those that do not answer; those that
    # are paused; seconds in which one must take an attempt
    | tuple[Literal["roster"], bool, dict[str, WorkerInfo | None], frozenset[str], dict[str, WorkerInfo], float | None]
)

#: Owner -> host: attempts, and what they need.
Delivery: TypeAlias = (
    # id, pickled task: a version of its code; before the first bundle that needs it
    tuple[Literal["code"], str, Payload]
    | tuple[Literal["drop"], str]  # id: that version is not needed any more
    | tuple[Literal["bundle"], str, list[Work]]  # lane, attempts: execute them in that lane
    | tuple[Literal["rows"], str, RowBundle]  # lane, the same as columns
)

#: Host -> owner.
ToOwner: TypeAlias = (
    tuple[Literal["lane"], str, str]  # lane, "open": its thread has a slot
    | tuple[Literal["ended"], str, list[Outcome]]  # lane, outcomes of attempts that ended
    | tuple[Literal["returned"], str, list[Key]]  # lane, attempts not begun, behind a long one: run them elsewhere
    | tuple[Literal["ready"], str]  # lane: it has room again after it returned work
    | tuple[Literal["progress"], str, int, int, float, bool]  # lane, started, finished, busy in s, blocked: counters
    | tuple[Literal["waiting"], str, int]  # lane, how many of its attempts await children: they take no room in it
    | tuple[Literal["closed"], str]  # lane: it has ended by itself
    | tuple[Literal["began"], Key]  # attempt: one with a max_queued_time has begun
    # attempt, number of the first one, items that it has yielded, each with a digest of all so far
    | tuple[Literal["items"], Key, int, list[tuple[Payload, bytes]]]
    | tuple[Literal["noted"], Key, Phase, str]  # attempt, phase, note: it is paused at a breakpoint, or resumed
)

#: Host -> owner, about rows.
AboutRows: TypeAlias = (
    # lane, (number of the rows, row): each is an attempt of its own from now on, of which other messages speak by its key
    tuple[Literal["alone"], str, list[tuple[int, int]]]
    | tuple[Literal["rows_ended"], str, int, Ends]  # lane, number of the rows, how some of them ended
    | tuple[Literal["rows_returned"], str, ReturnedRows]  # lane, rows that have not begun
)

#: Host -> home of a run (its kernel): what happened.
ToHome: TypeAlias = tuple[Literal["events"], list[Event]]

#: Both ways; see `flyte_nb.engine.links.peers.Switchboard`.
ToPeer: TypeAlias = (
    tuple[Literal["ask"], int, str, tuple[Any, ...]]  # number, question, its arguments
    | tuple[Literal["answer"], int, Any]  # number of the question, answer
)

Message: TypeAlias = ToHost | Delivery | ToOwner | AboutRows | ToHome | ToPeer
#: Called with the sender, and the fields of one kind of message.
Handler: TypeAlias = Callable[..., None]


def fields_of(table: Any) -> dict[str, tuple[Any, ...]]:
    """The types of the fields of each message in a table, by the message's name."""
    kinds = [table] if get_origin(table) is tuple else get_args(table)
    return {get_args(get_args(kind)[0])[0]: get_args(kind)[1:] for kind in kinds}


def handlers_of(receiver: object, table: Any) -> dict[str, Handler]:
    """The methods of a receiver that take the messages in a table: ``_on_<name>(sender, *fields)``.

    Raises:
        AttributeError: It has none for one of them.
    """
    return {name: getattr(receiver, f"_on_{name}") for name in fields_of(table)}
