"""Watch: attempts that must end; workers that do not end them lose their process. Runs in: engine thread; worker loop.

A worker ends what was cancelled or is out of time by itself (`flyte_nb.worker.stopping`), as long as its own loop runs. It does
not while a regular expression or a C extension holds the interpreter's lock, or while the process stands still. So the owner of
an attempt watches: it knows which attempts must end and when, asks their workers about them, and has the nanny of one that does
not answer, or does not do it, end the process. A worker that is merely busy is left alone, however long it is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from typing import Any, NamedTuple

from flyte_nb.core.attempts.body import GRACE
from flyte_nb.core.history.run_info import RunInfo
from flyte_nb.engine.dispatch.network import Network
from flyte_nb.engine.dispatch.settling import Unsettled
from flyte_nb.engine.links.pulse import LOOK_S, REST_S, Pulse
from flyte_nb.engine.links.wire import Key

logger: logging.Logger = logging.getLogger("flyte")

#: Seconds over its grace that an attempt has before its worker is ended, if that has been silent for `DEAF_S` seconds.
MARGIN_S = 0.5
DEAF_S = 2.0
#: The same, if the worker answers that the attempt is still under way.
STUBBORN_S = 1.5
#: Seconds after which a worker that was to be ended and is still linked counts as lost: nobody could end it.
GIVEN_UP_AFTER = 3.0
#: Seconds that a lost worker's overdue attempts are remembered: why it was lost is settled by then.
FORGET_AFTER = 60.0


class Due(NamedTuple):
    """An attempt that must end."""

    #: When it is to be stopped (`time.monotonic`).
    at: float
    #: The kind of its outcome then: "cancelled" or "timeout".
    why: str
    #: Of the attempt; None if another process owns it.
    run: RunInfo | None
    #: Address of its worker, where another process owns it; "" for an attempt of this owner.
    worker: str = ""


class Watch:
    """The attempts of one owner that must end, and the workers that they are at.

    Args:
        network: Links to the workers.
        unsettled: The owner's attempts.
    """

    def __init__(self, network: Network, unsettled: Unsettled) -> None:
        self._network = network
        self._unsettled = unsettled
        self._due: dict[Key, Due] = {}
        #: Workers that are being ended, and since when.
        self._ending: dict[str, float] = {}
        self.pulse: Pulse = Pulse(network, self._answered)
        self._looked_at = time.monotonic()
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._look_on())

    def expect(self, key: Key, run: RunInfo | None, seconds: float, why: str, worker: str = "") -> None:
        """An attempt is to be stopped after so many seconds, unless it has ended by then."""
        due = Due(time.monotonic() + seconds, why, run, worker)
        if key not in self._due or due.at < self._due[key].at:
            self._due[key] = due
            self.wake()

    def wake(self) -> None:
        """There is something to look at: without workers it rests until it is told."""
        self._wake.set()

    def expect_sent(self, key: Key, run: RunInfo, seconds: float, worker: str) -> None:
        """An attempt with a timeout goes to a worker. If that is this very process, the run's home watches over both."""
        if worker and worker == self._network.own_address:
            self._network.ask_home(run, "expect", (worker, key, seconds))
        else:
            self.expect(key, run, seconds, "timeout")

    def verdict(self, key: Key) -> str:
        """How an attempt ends that was lost with its worker: "cancelled" or "timeout" if it was overdue, else ""."""
        due = self._due.get(key)
        return due.why if due is not None and due.at <= time.monotonic() else ""

    def out_of_time(self, worker: str) -> set[tuple[str, str]]:
        """(run, action) of attempts of other owners that are out of time at a worker."""
        now = time.monotonic()
        found = (
            key for key, due in self._due.items() if due.worker == worker and due.why == "timeout" and due.at <= now
        )
        return {key[:2] for key in found}

    async def _look_on(self) -> None:
        while True:
            await self._pause()
            try:
                self.look()
            except Exception:  # without it, nobody would watch any more
                logger.exception("flyte_nb could not look after its workers")

    async def _pause(self) -> None:
        """Until the next look: where there is nothing to look at it costs nothing, and little while nothing is under way."""
        looks = bool(self._network.watched)
        if self._due or self._ending or (looks and (self._unsettled.by_key or self._unsettled.rows)):
            await asyncio.sleep(LOOK_S)
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), REST_S if looks else None)

    def look(self) -> None:
        """Ask after what is overdue, and end the workers that must be."""
        now = time.monotonic()
        overdue = self._overdue(now)
        self.pulse.look({*self._network.watched, *overdue}, now - self._looked_at, overdue)
        self._looked_at = now
        self._network.heard_of(self.pulse.quiet)
        for address, keys in overdue.items():
            longest = max(keys, key=lambda key: now - self._due[key].at)
            late = now - self._due[longest].at
            if late >= GRACE + MARGIN_S and self.pulse.quiet.get(address, 0.0) >= DEAF_S:
                self._end(address, longest, self.pulse.quiet[address])
        for address, since in list(self._ending.items()):
            if address not in self._network.links:
                del self._ending[address]
            elif now - since > GIVEN_UP_AFTER:
                del self._ending[address]
                self._network.drop(address)

    def _overdue(self, now: float) -> dict[str, list[Key]]:
        """Overdue attempts, by the worker they are at; those that have ended are forgotten."""
        found: dict[str, list[Key]] = defaultdict(list)
        for key, due in list(self._due.items()):
            attempt = self._unsettled.by_key.get(key)
            address = due.worker or (attempt.lane.address if attempt is not None and attempt.lane is not None else "")
            if not address or (due.worker and due.worker not in self._network.links and now - due.at > FORGET_AFTER):
                del self._due[key]
            elif due.at <= now:
                found[address].append(key)
        return found

    def _answered(self, address: str, keys: list[Key], answers: list[Any]) -> None:
        """A worker says for how long each attempt has been overdue; None: it is not there (any more)."""
        now = time.monotonic()
        for key, late in zip(keys, answers, strict=True):
            due = self._due.get(key)
            if due is None:
                continue
            if late is None and due.worker:
                del self._due[key]
                continue
            self._due[key] = due._replace(at=now - (late or 0.0))
            if late is not None and late >= GRACE + STUBBORN_S:
                self._end(address, key, 0.0)

    def _end(self, address: str, key: Key, silent: float) -> None:
        if address not in self._ending and address in self._network.links:
            self._ending[address] = time.monotonic()
            self._network.end_worker(address, self._due[key].run, silent)

    def close(self) -> None:
        """Stop looking."""
        self._task.cancel()

    def __repr__(self) -> str:
        return f"<Watch [{len(self._due)} to end, {len(self._ending)} workers being ended]>"
