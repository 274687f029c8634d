"""Shipments: each version of a task's code goes to a worker once, and the old ones go."""

from __future__ import annotations

from typing import Any

from flyte_nb.core.transport.code_versions import CodeVersion
from flyte_nb.core.transport.payload import Packed
from flyte_nb.engine.dispatch.shipments import KEPT_BYTES, KEPT_TASKS, KEPT_VERSIONS, Shipment, Shipments

A, B = "tcp://a", "tcp://b"


class World:
    """Shipments, and what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.shipments = Shipments(lambda address, message: self.sent.append((address, *message[:2])))

    def call(self, version: str, *workers: str, task: str = "e.t", size: int = 10) -> Shipment:
        """An attempt of a version is sent to workers."""
        payload = Packed(b"", (), size) if size > 100 else b"x" * size
        shipment = self.shipments.of(task, CodeVersion(version, payload))
        shipment.unsettled += 1
        for worker in workers:
            self.shipments.ship(worker, shipment)
        return shipment

    def dropped(self) -> list[tuple[str, str]]:
        return [(address, version) for address, name, version in self.sent if name == "drop"]


def test_a_version_is_sent_once_to_each_worker() -> None:
    """Whatever number of attempts needs it; anew to one that was lost."""
    world = World()
    for _ in range(3):
        world.call("v1", A, B)
    world.shipments.worker_lost(A)
    world.call("v1", A, B)

    assert [(A, "code", "v1"), (B, "code", "v1"), (A, "code", "v1")] == world.sent
    assert "<Shipments [1 versions of 1 tasks]>" == repr(world.shipments)
    assert "<Shipment v1 of e.t [2 workers, 5 unsettled]>" == repr(world.call("v1", A))


def test_old_versions_go_once_nothing_needs_them() -> None:
    """The latest few stay, and those with attempts under way."""
    world = World()
    shipments = [world.call(f"v{n}", A) for n in range(KEPT_VERSIONS + 3)]
    assert [] == world.dropped()
    for shipment in shipments[1:]:
        world.shipments.settled(shipment)
    assert [(A, "v1"), (A, "v2"), (A, "v3")] == world.dropped()
    world.shipments.settled(shipments[0])
    assert repr(world.shipments) == f"<Shipments [{KEPT_VERSIONS} versions of 1 tasks]>"

    world.call("v1", A)  # again, as new
    assert (A, "code", "v1") in world.sent[-2:]


def test_versions_that_are_used_in_turn_stay() -> None:
    """A program that goes to and fro between a few states sends each once."""
    world = World()
    for n in range(20):
        world.shipments.settled(world.call(f"v{n % KEPT_VERSIONS}", A))

    assert KEPT_VERSIONS == len(world.sent)


def test_large_globals_of_old_versions_go_at_once() -> None:
    """Of what is large only the latest version stays."""
    world = World()
    for n in range(3):
        world.shipments.settled(world.call(f"v{n}", A, B, size=KEPT_BYTES + 1))

    assert [(A, "v0"), (B, "v0"), (A, "v1"), (B, "v1")] == sorted(world.dropped(), key=lambda each: each[::-1])


def test_tasks_are_bounded() -> None:
    """The task that was called longest ago goes first."""
    world = World()
    for n in range(KEPT_TASKS + 2):
        world.shipments.settled(world.call("v", A, task=f"e.t{n}"))

    assert 2 == len(world.dropped())
    assert repr(world.shipments) == f"<Shipments [{KEPT_TASKS} versions of {KEPT_TASKS} tasks]>"
