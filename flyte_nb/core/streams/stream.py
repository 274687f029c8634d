"""Stream: what a call of a task that yields gives, for ``async for`` and for ``for``. Runs in: the calling code."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from flyte_nb.core.streams.inlet import NOTHING, Inlet
from flyte_nb.core.streams.outlet import TURN_S
from flyte_nb.core.tasks.context import current
from flyte_nb.core.tasks.prepare import prepare
from flyte_nb.core.values.describe import label_of

T = TypeVar("T")
#: Seconds that `Stream.aclose` waits for the producer's clean-up.
END_PATIENCE = 15.0


class Stream(AsyncIterator[T], Iterator[T], Generic[T]):
    """Items of one call of a task that yields, each as soon as it is there. It begins when it is first iterated over.

    As of a generator there is one pass. Who leaves the loop early and drops it ends the producer, at its next ``yield``; so do
    `aclose`, `close` and the end of a ``with`` or ``async with`` block. ``await`` gives all that is left, as a list. As an
    argument of a task, not yet begun, it is begun there: its items go from worker to worker.

    Example:
        >>> async for page in pages(10): ...
    """

    def __init__(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._task = task
        self._args = args
        self._kwargs = kwargs
        self._inlet: Inlet | None = None
        self._is_over = False
        self._turn = 0.0

    def _begin(self) -> Inlet:
        context = current()
        if context is None:
            raise RuntimeError(
                f"{self._label} was begun outside a run: iterate over it in a notebook's cell or in a task."
            )
        call = prepare(context, self._task, self._args, self._kwargs)
        inlet: Inlet = self._task.inlet(cached=bool(call.cache_key))
        self._inlet = call.stream = inlet
        inlet.gateway = context.gateway
        inlet.ticket = context.gateway.submit(call, inlet.deliver)
        return inlet

    @property
    def _label(self) -> str:
        return label_of(self._task.short_name, (self._args, self._kwargs), self._task.input_names)

    # -- for ------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        __tracebackhide__ = True
        if self._is_over:
            raise StopIteration
        inlet = self._inlet or self._begin()
        while True:
            if (item := inlet.take()) is not NOTHING:
                return item  # type: ignore[no-any-return]
            if self._ends(inlet):
                raise StopIteration
            inlet.wait()

    def close(self) -> None:
        """Want no more: the producer gets GeneratorExit at its ``yield``, and its clean-up runs."""
        self._is_over = True
        if self._inlet is not None:
            self._inlet.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- async for ------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        __tracebackhide__ = True
        if self._is_over:
            raise StopAsyncIteration
        inlet = self._inlet or self._begin()
        if inlet.items and time.perf_counter() - self._turn > TURN_S:
            await asyncio.sleep(0)  # a producer that is quick must not keep the loop from everything else
            self._turn = time.perf_counter()
        while True:
            if (item := inlet.take()) is not NOTHING:
                return item  # type: ignore[no-any-return]
            if self._ends(inlet):
                raise StopAsyncIteration
            await inlet.wait_aio()
            self._turn = time.perf_counter()

    async def aclose(self) -> None:
        """As `close`, and wait until the producer's clean-up is over."""
        self.close()
        inlet = self._inlet
        if inlet is not None and inlet.closed:  # not of a run, which goes on
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_PATIENCE):
                    await inlet.wait_end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __await__(self) -> Generator[Any, None, list[T]]:
        async def collect() -> list[T]:
            return [item async for item in self]

        return collect().__await__()

    # -- both -----------------------------------------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether there is an item that need not be waited for."""
        return bool(self.at_hand) and self._inlet is not None and self._inlet.is_ready

    @property
    def at_hand(self) -> int:
        """Items that have arrived and were not taken."""
        return len(self._inlet.items) if self._inlet is not None else 0

    @property
    def is_over(self) -> bool:
        """Whether its end was reached, or it was closed."""
        return self._is_over

    def _ends(self, inlet: Inlet) -> bool:
        """Whether it is over: there is no item, and none will follow. Raises what its producer raised, once."""
        __tracebackhide__ = True
        if self._is_over:
            return True
        end = inlet.end
        if end is None or inlet.items:
            return False
        self._is_over = True
        if end.kind != "ok":
            raise end.exception()
        return True

    def __del__(self) -> None:
        if getattr(self, "_inlet", None) is not None:
            self.close()

    def __reduce__(self) -> Any:
        if self._inlet is not None:
            raise TypeError(
                f"{self._label} has begun here, and can only be iterated over here: pass it on before its first item is taken, "
                f"or pass a list of its items, `[item async for item in ...]`"
            )
        return Stream, (self._task, self._args, self._kwargs)

    def __repr__(self) -> str:
        inlet = self._inlet
        if inlet is None:
            return f"<Stream {self._label}: not begun; iterate over it with `async for` or `for`>"
        return f"<Stream {self._label}: {inlet.taken:,} items taken{', over' * self._is_over}>"


class Reading(Stream[T]):
    """Items of a call that was made otherwise: of a run. Leaving the loop ends nothing."""

    def __init__(self, task: Any, bound: tuple[tuple[Any, ...], dict[str, Any]], inlet: Inlet) -> None:
        super().__init__(task, *bound)
        self._inlet = inlet

    def close(self) -> None:
        """Leave the run as it is."""
