"""Newcomers: workers that are listed and not linked yet, made hosts; or refused, and tried again. Runs in: engine thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Set as AbstractSet

from flyte_nb.engine.clusters import welcome
from flyte_nb.engine.clusters.cluster import ClusterHandle
from flyte_nb.engine.links.peers import Peers
from flyte_nb.errors import NoClusterError, VersionMismatchError

#: Workers that an error names.
MAX_NAMED = 3
#: Seconds that workers have to become hosts, all together; then each for itself.
WELCOME_S = 60.0
#: Seconds in which a worker must tell its versions.
ANSWERS_S = 5.0
#: Seconds after which a worker that could not be used is looked at again.
AGAIN_S = 10.0


class Newcomers:
    """Those of one kernel.

    Args:
        peers: Links of the kernel.
        entry: Module by which a worker becomes a host.
    """

    def __init__(self, peers: Peers, entry: str) -> None:
        self._peers = peers
        self._entry = entry
        #: What is done at the start just now, in words.
        self.stage: str = "connecting to the scheduler"
        #: Workers listed for the first time in the last answer.
        self._young: AbstractSet[str] = frozenset()
        #: Workers that are being made hosts.
        self._coming: set[str] = set()
        #: Why workers cannot be linked to, by address; they are tried again as long as the scheduler lists them.
        self.unreachable: dict[str, str] = {}
        #: Why workers cannot be hosts, as sentences, and when they are asked again.
        self.unfit: dict[str, str] = {}
        self._again: dict[str, float] = {}

    def of(self, listed: AbstractSet[str], busy: AbstractSet[str], at_once: bool) -> list[str]:
        """The workers to be welcomed now.

        Args:
            listed: All workers.
            busy: Those that rest, or are being linked to.
            at_once: Whether also those that have only just been listed. One that dies as it registers makes its nanny give up
                (Dask's own race), so elsewhere than in the embedded cluster it gets its first work one request later.
        """
        for reasons in (self.unreachable, self.unfit):
            for address in reasons.keys() - listed:
                del reasons[address]
        now = asyncio.get_running_loop().time()
        self._again = {address: at for address, at in self._again.items() if address in listed and at > now}
        before, self._young = self._young, listed - self._peers.links.keys()
        ready = self._young - busy - self._coming - self._again.keys()
        return [address for address in ready if at_once or address in before]

    async def meet(self, handle: ClusterHandle, workers: list[str]) -> None:
        """Link to the workers that are there at the start.

        Raises:
            VersionMismatchError: Versions differ.
            NoClusterError: None of them can be used.
        """
        if not handle.embedded:
            await self._compare(handle, workers)
        self.stage = f"preparing {len(workers)} workers (flyte_nb is sent to those that lack it)"
        await self._welcome(handle, workers)
        if workers and not self._peers.links:
            raise NoClusterError(self._unusable_text(handle))

    async def _compare(self, handle: ClusterHandle, workers: list[str]) -> None:
        unlike: dict[str, str] = {}
        self.stage = f"comparing versions with {len(workers)} workers"
        with contextlib.suppress(TimeoutError):  # then each is asked for itself
            unlike = await asyncio.wait_for(welcome.unlike(handle.client, workers, scheduler=True), ANSWERS_S)
        if unlike:
            raise VersionMismatchError(
                f"{handle.description} cannot be used: {'; '.join(list(unlike.values())[:MAX_NAMED])}"
                f"{' ...' if len(unlike) > MAX_NAMED else ''}."
            )

    def welcome(self, handle: ClusterHandle, workers: list[str]) -> None:
        """Make workers hosts, and link to them, in the background."""
        self._coming.update(workers)
        self._peers.spawn(self._welcome(handle, workers))

    async def _welcome(self, handle: ClusterHandle, workers: list[str]) -> None:
        # Those of the embedded cluster are hosts before they register; unless they have taken this kernel for gone.
        ready = handle.embedded and not any(address in self.unreachable for address in workers)
        try:
            refused = {} if ready else await asyncio.wait_for(self._hosts(handle, workers), WELCOME_S)
        except TimeoutError:
            if len(workers) > 1:  # one of them does not answer
                await asyncio.gather(*(self._welcome(handle, [address]) for address in workers))
                return
            refused = {workers[0]: f"worker {workers[0]} does not answer"}
        except OSError as exc:  # the scheduler went away: it is asked again if it comes back
            refused = {address: f"worker {address} cannot be asked: {exc}" for address in workers}
        again = asyncio.get_running_loop().time() + AGAIN_S
        for address, why in refused.items():
            self.unfit[address], self._again[address] = why, again
        self._coming.difference_update(workers)
        linking = [self._peers.connect(address) for address in workers if address not in refused]
        if linking:
            await asyncio.wait(linking)

    async def _hosts(self, handle: ClusterHandle, workers: list[str]) -> dict[str, str]:
        """Make workers hosts; returns why not, by address, for those that are none."""
        try:
            unlike = await asyncio.wait_for(welcome.unlike(handle.client, workers), ANSWERS_S)
        except TimeoutError:
            if len(workers) == 1:
                return {workers[0]: f"worker {workers[0]} does not answer"}
            each = await asyncio.gather(*(self._hosts(handle, [address]) for address in workers))
            return {address: why for refused in each for address, why in refused.items()}
        fit = [address for address in workers if address not in unlike]
        grows = not handle.embedded
        return unlike | await welcome.settle(handle.client, fit, self._peers.kernel, self._entry, grows)

    def _unusable_text(self, handle: ClusterHandle) -> str:
        if not self.unreachable:
            return f"none of the workers of {handle.description} can be used: {next(iter(self.unfit.values()))}."
        address, why = next(iter(self.unreachable.items()))
        return (
            f"none of the {len(self.unreachable)} workers of {handle.description} can be reached from this process "
            f"({address}: {why}). Actions travel straight to the workers: run the notebook where it can open connections to "
            "them, or have the workers listen on addresses that it can reach (`dask worker --contact-address`)."
        )

    def linked(self, address: str) -> None:
        """A worker is linked."""
        self.unreachable.pop(address, None)
        self.unfit.pop(address, None)

    def __repr__(self) -> str:
        counts = f"{len(self._coming)} coming, {len(self.unfit)} unfit, {len(self.unreachable)} unreachable"
        return f"<Newcomers of {self._peers.me} [{counts}]>"
