"""``flyte.extras``: `DynamicBatcher` collects records of many coroutines into batches. Runs in: one event loop.

One worker coroutine: it waits for a first record, then for more until the batch is full (in cost or number) or the time is
up, and calls the function. While that runs, records gather for the next batch. Flyte's loops that prefetch are not needed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from flyte_nb.unsupported import ContainerTask

RecordT = TypeVar("RecordT")
ResultT = TypeVar("ResultT")

ProcessFn = Callable[[list[RecordT]], Awaitable[list[ResultT]]]


@runtime_checkable
class CostEstimator(Protocol):
    """A record that knows what it costs."""

    def estimate_cost(self) -> int:
        """Its cost, in the unit of ``target_batch_cost``."""
        ...


@runtime_checkable
class TokenEstimator(Protocol):
    """A record that knows how many tokens it has."""

    def estimate_tokens(self) -> int:
        """Its tokens."""
        ...


@dataclass
class Prompt:
    """A text for a language model; a token is taken to be four characters.

    Args:
        text: The text.
    """

    text: str

    def estimate_tokens(self) -> int:
        """Its tokens, at least one."""
        return len(self.text) // 4 + 1


@dataclass
class BatchStats:
    """What a batcher has done so far."""

    total_submitted: int = 0
    total_completed: int = 0
    total_batches: int = 0
    total_batch_cost: int = 0
    #: Seconds spent in the function.
    busy_time_s: float = 0.0
    #: Seconds spent waiting for records.
    idle_time_s: float = 0.0

    @property
    def avg_batch_size(self) -> float:
        """Records per batch."""
        return self.total_completed / self.total_batches if self.total_batches else 0.0

    @property
    def avg_batch_cost(self) -> float:
        """Cost per batch."""
        return self.total_batch_cost / self.total_batches if self.total_batches else 0.0

    @property
    def utilization(self) -> float:
        """Share of the time spent in the function, from 0 to 1."""
        total = self.busy_time_s + self.idle_time_s
        return self.busy_time_s / total if total else 0.0


class _Entry(Generic[RecordT, ResultT]):
    __slots__ = ("cost", "future", "record")

    def __init__(self, record: RecordT, cost: int) -> None:
        self.record = record
        self.cost = cost
        self.future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()


class DynamicBatcher(Generic[RecordT, ResultT]):
    """Runs records that many coroutines submit through one async function, batch by batch.

    Args:
        process_fn: Takes a list of records and returns their results in the same order.
        cost_estimator: Cost of a record; by default its own ``estimate_cost()``, else `default_cost`.
        target_batch_cost: Cost at which a batch is full.
        max_batch_size: Records at which it is full.
        min_batch_size: Records it waits for, until the time is up.
        batch_timeout_s: Seconds after its first record at which a batch is run however small.
        max_queue_size: Records that may wait; beyond it `submit` waits.
        prefetch_batches: Accepted for Flyte's sake.
        default_cost: Cost of a record that has no estimate.

    Example:
        >>> async with DynamicBatcher(process_fn=embed) as batcher:
        ...     future = await batcher.submit("text")
        ...     vector = await future
    """

    def __init__(
        self, process_fn: ProcessFn[RecordT, ResultT], *, cost_estimator: Callable[[RecordT], int] | None = None,
        target_batch_cost: int = 32_000, max_batch_size: int = 256, min_batch_size: int = 1,
        batch_timeout_s: float = 0.05, max_queue_size: int = 5_000, prefetch_batches: int = 2, default_cost: int = 1,
    ) -> None:  # fmt: skip
        self._process = process_fn
        self._estimator = cost_estimator
        self._target_cost = target_batch_cost
        self._max_size = max_batch_size
        self._min_size = min_batch_size
        self._timeout = batch_timeout_s
        self._room = asyncio.Semaphore(max_queue_size)
        self._default_cost = default_cost
        self._waiting: deque[_Entry[RecordT, ResultT]] = deque()
        self._arrived = asyncio.Event()
        self._stopping = False
        self._worker: asyncio.Task[None] | None = None
        #: What it has done so far.
        self.stats: BatchStats = BatchStats()

    @property
    def is_running(self) -> bool:
        """Whether it takes records."""
        return self._worker is not None and not self._stopping

    async def start(self) -> None:
        """Begin to take records.

        Raises:
            RuntimeError: It runs already.
        """
        if self.is_running:
            raise RuntimeError(f"{type(self).__name__} is already running.")
        self._stopping = False
        self._worker = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Run what was submitted, then end."""
        self._stopping = True
        self._arrived.set()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker

    async def submit(self, record: RecordT, *, estimated_cost: int | None = None) -> asyncio.Future[ResultT]:
        """Submit a record; waits while too many wait already.

        Args:
            record: The record.
            estimated_cost: Its cost; None asks the estimator.

        Returns:
            A future of its result.

        Raises:
            RuntimeError: The batcher is not running.
        """
        if not self.is_running:
            raise RuntimeError(f"{type(self).__name__} is not running. Call start() or use 'async with'.")
        await self._room.acquire()
        entry: _Entry[RecordT, ResultT] = _Entry(record, self._cost_of(record, estimated_cost))
        self._waiting.append(entry)
        self.stats.total_submitted += 1
        self._arrived.set()
        return entry.future

    async def submit_batch(
        self, records: Sequence[RecordT], *, estimated_cost: Sequence[int] | None = None
    ) -> list[asyncio.Future[ResultT]]:
        """Submit several records; returns their futures."""
        costs: Sequence[int | None] = estimated_cost if estimated_cost is not None else [None] * len(records)
        return [await self.submit(r, estimated_cost=c) for r, c in zip(records, costs, strict=True)]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    def _cost_of(self, record: RecordT, given: int | None) -> int:
        if given is not None:
            return given
        if self._estimator is not None:
            return self._estimator(record)
        return record.estimate_cost() if isinstance(record, CostEstimator) else self._default_cost

    async def _work(self) -> None:
        while True:
            began = time.monotonic()
            batch = await self._collect()
            self.stats.idle_time_s += time.monotonic() - began
            if not batch:
                return
            began = time.monotonic()
            await self._run(batch)
            self.stats.busy_time_s += time.monotonic() - began

    async def _collect(self) -> list[_Entry[RecordT, ResultT]]:
        """The next batch; empty once it is stopped and nothing waits."""
        while not self._waiting:
            if self._stopping:
                return []
            self._arrived.clear()
            await self._arrived.wait()
        due = time.monotonic() + self._timeout
        while not self._is_full() and not self._stopping and (left := due - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                break
        return self._take()

    def _is_full(self) -> bool:
        if len(self._waiting) >= self._max_size:
            return True
        return len(self._waiting) >= self._min_size and sum(e.cost for e in self._waiting) >= self._target_cost

    def _take(self) -> list[_Entry[RecordT, ResultT]]:
        batch: list[_Entry[RecordT, ResultT]] = []
        cost = 0
        while self._waiting and len(batch) < self._max_size:
            if batch and cost + self._waiting[0].cost > self._target_cost:
                break
            entry = self._waiting.popleft()
            self._room.release()
            cost += entry.cost
            batch.append(entry)
        self.stats.total_batch_cost += cost
        return batch

    async def _run(self, batch: list[_Entry[RecordT, ResultT]]) -> None:
        try:
            results = await self._process([entry.record for entry in batch])
            if len(results) != len(batch):
                raise ValueError(
                    f"process_fn returned {len(results)} results for {len(batch)} records; it must return one for each."
                )
        except Exception as exc:
            for entry in batch:
                if not entry.future.done():
                    entry.future.set_exception(exc)
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.future.done():
                    entry.future.set_result(result)
        self.stats.total_batches += 1
        self.stats.total_completed += len(batch)


class TokenBatcher(DynamicBatcher[RecordT, ResultT]):
    """A `DynamicBatcher` whose costs are tokens, for a language model.

    Args:
        inference_fn: As ``process_fn``.
        process_fn: The same.
        token_estimator: As ``cost_estimator``; by default a record's own ``estimate_tokens()``.
        target_batch_tokens: As ``target_batch_cost``.
        default_token_estimate: As ``default_cost``.
        settings: Others of `DynamicBatcher`.

    Raises:
        TypeError: There is no function.
    """

    def __init__(
        self, inference_fn: ProcessFn[RecordT, ResultT] | None = None, *,
        process_fn: ProcessFn[RecordT, ResultT] | None = None, token_estimator: Callable[[RecordT], int] | None = None,
        target_batch_tokens: int | None = None, default_token_estimate: int | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        function = inference_fn or process_fn
        if function is None:
            raise TypeError("TokenBatcher requires either 'inference_fn' or 'process_fn'")
        if token_estimator is not None:
            settings["cost_estimator"] = token_estimator
        if target_batch_tokens is not None:
            settings["target_batch_cost"] = target_batch_tokens
        if default_token_estimate is not None:
            settings["default_cost"] = default_token_estimate
        super().__init__(function, **settings)

    async def submit(
        self, record: RecordT, *, estimated_tokens: int | None = None, estimated_cost: int | None = None
    ) -> asyncio.Future[ResultT]:
        """As `DynamicBatcher.submit`; `estimated_tokens` is the cost."""
        cost = estimated_tokens if estimated_tokens is not None else estimated_cost
        return await super().submit(record, estimated_cost=cost)

    def _cost_of(self, record: RecordT, given: int | None) -> int:
        if given is None and self._estimator is None and isinstance(record, TokenEstimator):
            return record.estimate_tokens()
        return super()._cost_of(record, given)


__all__ = ["BatchStats", "ContainerTask", "CostEstimator", "DynamicBatcher", "Prompt", "TokenBatcher", "TokenEstimator"]
