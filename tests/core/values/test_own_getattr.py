"""Values whose classes answer for any attribute, and fail for those that Python and libraries ask for: ``AttrDict``."""

from __future__ import annotations

from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.settings.label import label_of_call
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.core.transport.payload import loads
from flyte_nb.core.values.describe import brief, label_of
from flyte_nb.core.values.value_hash import content_hash, state_hash

env = flyte.TaskEnvironment("own-getattr")


class AttrDict(dict[str, Any]):
    """As programs have it: its error is a KeyError."""

    __getattr__: Any = dict.__getitem__


class Lazy:
    """Loads what it is asked for."""

    def __init__(self) -> None:
        self.depth = 3

    def __reduce__(self) -> Any:
        return Lazy, ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no connection for {name}")


SETTINGS, LAZY = AttrDict(depth=2), Lazy()


@env.task(label="{given.depth}")
def reads(given: Any) -> int:
    """Its code reads both."""
    return int(SETTINGS["depth"] + LAZY.depth + given.depth)


@pytest.mark.parametrize("value", [SETTINGS, LAZY], ids=["AttrDict", "Lazy"])
def test_such_values_are_read_described_hashed_and_sent(value: Any) -> None:
    """As globals of a task, and as its arguments; one of a wrong type is refused as any other."""
    version = CodeVersions(Blobs()).of(reads)
    sent = loads(version.payload)
    assert getattr(sent, "task", sent).func(value) == 5 + value.depth  # others of this process go along
    assert state_hash(reads.func) == state_hash(reads.func)
    assert content_hash(value) == content_hash(value)
    assert type(value).__name__ in brief([value]) or str(value) in brief([value])
    assert label_of("reads", ((value,), {}), ("given",)).startswith("reads(")
    assert label_of_call(reads, (value,), {})

    @env.task
    def counts(n: int | None) -> int:
        return n or 0

    with pytest.raises(TypeError, match="int"):
        counts.interface.bind((value,), {})
