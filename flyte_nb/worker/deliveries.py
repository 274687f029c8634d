"""Deliveries: code and bundles from owners, held until all that they need is here, then given to lanes. Runs in: worker."""

from __future__ import annotations

from collections.abc import Callable

from flyte_nb.core.control.work import Work
from flyte_nb.core.transport.payload import Packed, Payload
from flyte_nb.engine.links.blob_fetch import Fetcher
from flyte_nb.engine.links.wire import Message, ReturnedRows, RowBundle
from flyte_nb.worker.lanes.lane import LaneThread
from flyte_nb.worker.process.code import CodeStore, when_here
from flyte_nb.worker.rows import QueuedBundle
from flyte_nb.worker.stopping import Stopping


class Deliveries:
    """Those to one host.

    Args:
        code: The versions of tasks' code that are here.
        fetcher: Fetches large buffers from other machines.
        stopping: Knows what was cancelled meanwhile.
        lanes: By their id.
        reply: Sends a message to a peer that is still linked.
    """

    def __init__(
        self, code: CodeStore, fetcher: Fetcher, stopping: Stopping, lanes: dict[str, LaneThread],
        reply: Callable[[str, Message], None], on_work: Callable[[], None],
    ) -> None:  # fmt: skip
        self._code = code
        self._fetcher = fetcher
        self._stopping = stopping
        self._lanes = lanes
        self._reply = reply
        self._on_work = on_work

    def _on_code(self, owner: str, version: str, payload: Payload) -> None:
        self._code.take(owner, version, payload)

    def _on_drop(self, owner: str, version: str) -> None:
        self._code.drop(owner, version)

    def _on_bundle(self, owner: str, lane_id: str, bundle: list[Work]) -> None:
        far = self._code.missing({work.version for work in bundle})
        if far:
            self._stopping.expect(bundle)
            when_here(far, lambda: self._fetch(owner, lane_id, bundle))
        elif any(type(work.payload) is Packed for work in bundle):
            self._stopping.expect(bundle)
            self._fetch(owner, lane_id, bundle)
        else:
            self._deliver(owner, lane_id, bundle)

    def _on_rows(self, owner: str, lane_id: str, bundle: RowBundle) -> None:
        if far := self._code.missing([bundle.version]):
            when_here(far, lambda: self._deliver_rows(owner, lane_id, bundle))
        else:
            self._deliver_rows(owner, lane_id, bundle)

    def _deliver_rows(self, owner: str, lane_id: str, bundle: RowBundle) -> None:
        lane, queued = self._lanes.get(lane_id), QueuedBundle(bundle)
        if lane is None or lane.closed:
            self._reply(
                owner, ("rows_returned", lane_id, ReturnedRows(bundle.number, queued.take_back(), recalled=False))
            )
        else:
            lane.add([queued])
            self._on_work()

    def _fetch(self, owner: str, lane_id: str, bundle: list[Work]) -> None:
        self._fetcher.arguments(bundle, lambda works: self._arrived(owner, lane_id, works))

    def _arrived(self, owner: str, lane_id: str, works: list[Work]) -> None:
        """The arguments of a bundle are on this machine; some of its attempts may have been cancelled meanwhile."""
        stopped = self._stopping.arrived(works)
        lane = self._lanes.get(lane_id)
        if stopped and lane is not None:
            lane.started += len(stopped)
            lane.finished += len(stopped)
            lane.host.report(lane, stopped, None)
        elif stopped:
            self._reply(owner, ("ended", lane_id, stopped))
        gone = {outcome[:3] for outcome in stopped}
        self._deliver(owner, lane_id, [work for work in works if work.key not in gone])

    def _deliver(self, owner: str, lane_id: str, bundle: list[Work]) -> None:
        lane = self._lanes.get(lane_id)
        if lane is None or lane.closed:
            self._reply(owner, ("returned", lane_id, [work.key for work in bundle]))
        else:
            lane.add(bundle)
            self._on_work()
