"""Rows on their way to lanes and back: sent as slices, settled as columns, singled out where need be.

Runs in: engine thread; worker loop.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection
from typing import Any

from flyte_nb.core.control.rows import OPEN, Batches, Ends, Rows
from flyte_nb.core.control.work import Outcome, Work
from flyte_nb.core.history.columns import DIGEST, preview_of
from flyte_nb.engine.dispatch.groups import LaneGroups
from flyte_nb.engine.dispatch.lanes import Lane, LaneGroup, QueuedAttempt, QueuedRows, Slice, slices_of
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.settling import Unsettled
from flyte_nb.engine.dispatch.shipments import Shipments
from flyte_nb.engine.links.wire import ReturnedRows, RowBundle


def bundle_of(rows: Rows, low: int, high: int) -> RowBundle:
    """Some rows as they are sent."""
    labels = rows.labels[low:high] if isinstance(rows.labels, list) else rows.labels
    version = rows.code.id if rows.code is not None else ""
    return RowBundle(
        rows.number, rows.run.name, rows.parent, rows.group, rows.run.on_failure, version, rows.suffix, labels, low,
        rows.names[DIGEST * low : DIGEST * high], rows.payloads[low:high],
    )  # fmt: skip


class RowDispatch:
    """The rows of one owner. `flyte_nb.core.control.rows.RowExecutor`."""

    def __init__(self, network: Network, unsettled: Unsettled, shipments: Shipments, groups: LaneGroups) -> None:
        self._network = network
        self._unsettled = unsettled
        self._shipments = shipments
        self._groups = groups
        #: Dispatches a group in the next tick.
        self.touch: Callable[[LaneGroup], None] = lambda _group: None
        #: The controller's, where it hands over rows.
        self.batches: Batches
        self.lanes: dict[str, Lane] = {}

    def drives(self, batches: Batches) -> None:
        """Execute these."""
        self.batches, batches.executor = batches, self

    def start_rows(self, rows: Rows) -> None:
        """Queue them."""
        task: Any = rows.task
        group = self._groups.recent.get(task) or self._groups.of(task)
        shipment = self._shipments.of(rows.task.name, rows.code)
        queued = QueuedRows(rows, group, shipment, array("H", bytes(2 * len(rows))))
        self._unsettled.add_rows(queued)
        group.queue.append(Slice(queued, 0, len(rows)))
        self.touch(group)

    def go_alone(self, rows: Rows, row: int, work: Work, done: Callable[[Outcome], None]) -> None:
        """A row is an attempt of its own from now on: in the queue, or at the lane where it is."""
        queued = self._unsettled.rows[rows.number]
        attempt = QueuedAttempt(rows.run, work, done, queued.group, queued.shipment, stands_since=queued.stands_since)
        self._unsettled.add(attempt)
        if queued.at[row]:
            attempt.lane = lane = queued.lanes[queued.at[row] - 1]
            lane.attempts[work.key] = attempt
            lane.rows_ended(1)
        else:
            queued.group.queue.single_out(queued, row, attempt)
        self._settled(queued)

    def cancel_rows(self, rows: Rows) -> array[int]:
        """Forget rows that are queued, and return them; have workers give back what has not begun."""
        queued = self._unsettled.rows.get(rows.number)
        if queued is None:
            return array("I")
        waiting = self._take_off(queued, range(len(rows)))
        for lane in queued.lanes:
            if out := queued.at_lane(lane):
                self._network.send(lane.address, ("recall", lane.id, rows.number))
                # It computes, most likely: who watches over attempts that must end sees to it.
                self._cancel(queued, out[:1])
        return waiting

    def forget(self, rows: Rows, which: Collection[int]) -> array[int]:
        """Forget those of some rows that are queued, and return them."""
        queued = self._unsettled.rows.get(rows.number)
        return self._take_off(queued, which) if queued is not None else array("I")

    def ended_early(self, rows: Rows) -> None:
        """Let go of them if none is open any more."""
        queued = self._unsettled.rows.get(rows.number)
        if queued is not None:
            self._settled(queued)

    def _cancel(self, queued: QueuedRows, which: list[int]) -> None:
        for row in which:
            self.batches.cancel_one(queued.rows, row)

    def _settled(self, queued: QueuedRows) -> None:
        """Let go of rows once none is open."""
        if OPEN not in queued.rows.state:
            self._unsettled.rows_settled(queued)

    # -- reports of hosts -----------------------------------------------------------------------------------------

    def _on_alone(self, _address: str, _lane_id: str, which: list[tuple[int, int]]) -> None:
        for number, row in which:
            if (queued := self._unsettled.rows.get(number)) is not None:
                self.batches.go_alone(queued.rows, row)

    def _on_rows_ended(self, address: str, lane_id: str, number: int, ends: Ends) -> None:
        queued, lane = self._unsettled.rows.get(number), self.lanes.get(lane_id)
        if queued is None or lane is None:
            self._singled_out(number, ends, lane)
            return
        rows, place, state, at = ends.rows, queued.number_of(lane), queued.rows.state, queued.at
        low, n = rows[0], len(rows)
        in_a_row = rows[-1] - low + 1 == n and state.count(OPEN, low, low + n) == n
        if not (in_a_row and at[low : low + n] == array("H", [place]) * n):
            still = [i for i, row in enumerate(rows) if state[row] == OPEN and at[row] == place]
            if len(still) < n:
                self._singled_out(number, ends, lane)
                ends = part_of(ends, still)
        if ends.rows:
            self.batches.ended(queued.rows, ends)
            lane.rows_ended(len(ends.rows))
        self._settled(queued)

    def _singled_out(self, number: int, ends: Ends, lane: Lane | None) -> None:
        """Settle those that went alone since they were sent."""
        rows = self.batches.by_number.get(number)
        found = []
        for i, row in enumerate(ends.rows):
            flight = rows.alone.get(row) if rows is not None else None
            if flight is not None and flight.work is not None and flight.work.attempt == 0:
                started, ended = (array("d", data)[i] for data in (ends.started, ends.ended))
                busy, output = array("f", ends.busy)[i], ends.outputs[i]
                preview = ends.previews.get(i) or preview_of(output)
                key = flight.work.key
                found.append(Outcome(*key, "ok", output, None, started, ended, preview, ends.location, busy))
        self._unsettled.settle(found, lane)

    def _on_rows_returned(self, _address: str, lane_id: str, returned: ReturnedRows) -> None:
        number, rows, recalled = returned
        queued, lane = self._unsettled.rows.get(number), self.lanes.get(lane_id)
        if lane is None:
            return
        lane.stalled = lane.stalled or not recalled
        lane.sent -= len(rows)
        place = queued.number_of(lane) if queued is not None else 0
        back = [
            row for row in rows if queued is not None and queued.rows.state[row] == OPEN and queued.at[row] == place
        ]
        if queued is not None and back:
            lane.give_back(queued, frozenset(back))
            self._queue_again(queued, back)
        self._alone_returned(number, rows, lane)
        if queued is not None and queued.rows.reason:
            self._cancel(queued, queued.at_lane(lane))
            self._settled(queued)

    def _alone_returned(self, number: int, rows: array[int], lane: Lane) -> None:
        """Those that went alone since they were sent, and had not begun, are queued again, too."""
        batch = self.batches.by_number.get(number)
        if batch is None or not batch.alone:
            return
        flights = [batch.alone[row] for row in rows if row in batch.alone]
        keys = [flight.work.key for flight in flights if flight.work is not None]
        found = [attempt for key in keys if (attempt := lane.attempts.pop(key, None)) is not None]
        for attempt in found:
            if batch.reason or self._is_cancelled(batch, attempt):
                self._unsettled.end([attempt], "cancelled", None)
        lane.group.take_back([one for one in found if one.work.key in self._unsettled.by_key])
        self.touch(lane.group)

    @staticmethod
    def _is_cancelled(batch: Rows, attempt: QueuedAttempt) -> bool:
        return any(flight.cancel_reason for flight in batch.alone.values() if flight.work is attempt.work)

    def _queue_again(self, queued: QueuedRows, rows: list[int]) -> None:
        """Rows that have not begun run elsewhere; not at all if they were cancelled."""
        again = slices_of(queued, sorted(rows))
        if queued.rows.reason:
            self.batches.aborted(queued.rows, array("I", rows))
        else:
            queued.group.queue.prepend(again)
            self.touch(queued.group)

    # -- losses ---------------------------------------------------------------------------------------------------

    def salvage(self, lane: Lane, begun: int) -> list[QueuedAttempt]:
        """Queue rows again that a lost lane had not begun; returns those that it had, as far as it had reported."""
        known = set(lane.attempts)
        out = [(one.of, row) for one in lane.slices for row in one.of.at_lane(lane, one.low, one.high)]
        for queued, row in out[:begun]:
            self.batches.go_alone(queued.rows, row)
        first = [lane.attempts.pop(key) for key in list(lane.attempts) if key not in known]
        for queued, rows in reversed(lane.take_rows()):
            for row in rows:
                queued.at[row] = 0
            self._queue_again(queued, rows)
        return first

    def rows_alone(self, lane: Lane) -> None:
        """Make each row of a lane an attempt of its own: all of them are lost."""
        for queued, rows in [(one.of, one.of.at_lane(lane, one.low, one.high)) for one in lane.slices]:
            for row in rows:
                self.batches.go_alone(queued.rows, row)

    def all_alone(self, group: LaneGroup | None = None) -> None:
        """Make each row an attempt of its own, of one group or of all: something ends all of them."""
        for queued in list(self._unsettled.rows.values()):
            if group in (None, queued.group):
                self._take_off(queued, range(len(queued.rows)))
                for row in queued.rows.open(range(len(queued.rows))):
                    self.batches.go_alone(queued.rows, row)

    @staticmethod
    def _take_off(queued: QueuedRows, rows: Collection[int]) -> array[int]:
        """Take rows off the queue, in one pass; returns those that were there."""
        items: list[QueuedAttempt | Slice] = []
        found = array("I")
        for item in queued.group.queue:
            if isinstance(item, Slice) and item.of is queued:
                gone = [row for row in range(item.low, item.high) if row in rows]
                found.extend(gone)
                items += (
                    slices_of(queued, (row for row in range(item.low, item.high) if row not in rows))
                    if gone
                    else [item]
                )
            else:
                items.append(item)
        queued.group.queue.replace(items)
        return found

    def __repr__(self) -> str:
        return f"<RowDispatch [{len(self._unsettled.rows)} on their way]>"


def part_of(ends: Ends, places: list[int]) -> Ends:
    """Some of these ends."""
    started, ended, busy = array("d", ends.started), array("d", ends.ended), array("f", ends.busy)
    return Ends(
        array("I", [ends.rows[i] for i in places]), array("d", [started[i] for i in places]).tobytes(),
        array("d", [ended[i] for i in places]).tobytes(), array("f", [busy[i] for i in places]).tobytes(),
        [ends.outputs[i] for i in places], {at: ends.previews[i] for at, i in enumerate(places) if i in ends.previews},
        ends.location,
    )  # fmt: skip
