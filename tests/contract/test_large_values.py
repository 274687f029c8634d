"""Large values of any kind cross: as arguments, results, in runs and maps; and a limit that was set is kept."""

# mypy: disable-error-code="arg-type,call-overload,no-any-return,unused-ignore"

from __future__ import annotations

import array
import collections
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

import flyte_nb as flyte
from flyte_nb.core.transport import blobs, payload

env = flyte.TaskEnvironment("large_values")
N = 1_500_000  # 12 MB of floats: more than the default limit


def _forest() -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    return RandomForestClassifier(400, random_state=0, max_depth=6).fit(x, x[:, 0] > 0)


def _masked() -> Any:
    return np.ma.masked_array(np.arange(float(N)), mask=np.arange(N) % 3 == 0, fill_value=7.0, hard_mask=True)


def _fields() -> Any:
    return np.zeros(N, dtype=[("a", "f8"), ("b", "i4")])


class Columns:
    """Holds small arrays, as a forest does."""

    def __init__(self) -> None:
        self.parts = [np.full(3_000, float(i)) for i in range(600)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Columns) and all(map(np.array_equal, self.parts, other.parts))

    __hash__ = None  # type: ignore[assignment]


#: By name: what makes a value of more than 10 MiB.
MAKE: dict[str, Any] = {
    "contiguous": lambda: np.arange(float(N)),
    "columns": lambda: np.arange(2.0 * N).reshape(1000, -1)[:, : N // 1000],
    "every second": lambda: np.arange(2.0 * N)[::2],
    "reversed": lambda: np.arange(float(N))[::-1],
    "reversed rows": lambda: np.arange(float(N)).reshape(100, -1)[::-1, ::-1],
    "fortran": lambda: np.asfortranarray(np.arange(float(N)).reshape(100, -1)),
    "axes moved": lambda: np.arange(float(N)).reshape(10, 100, -1).transpose(1, 0, 2),
    "field": lambda: _fields()["a"],
    "fields": lambda: _fields()[["a"]],
    "structured": _fields,
    "broadcast": lambda: np.broadcast_to(np.arange(1000.0), (N // 1000, 1000)),
    "masked": _masked,
    "masked, strided": lambda: np.ma.masked_array(np.arange(2.0 * N), mask=False)[::2],
    "masked, without": lambda: np.ma.masked_array(np.arange(float(N))),
    "objects": lambda: np.array([f"text {i}" for i in range(800_000)], dtype=object),
    "dates": lambda: np.arange(N).astype("M8[s]")[::-1],
    "texts": lambda: np.array([f"{i:08d}" for i in range(400_000)])[::-1],
    "record array": lambda: np.rec.fromarrays([np.arange(float(N)), np.arange(N)], names="a,b"),
    "readonly": lambda: _readonly(np.arange(2.0 * N)[::2].copy()),
    "memoryview": lambda: memoryview(np.arange(float(N))),
    "memoryview, strided": lambda: memoryview(np.arange(2.0 * N))[::2],
    "memoryview of rows": lambda: memoryview(np.arange(float(N)).reshape(1000, -1)),
    "object column": lambda: pd.DataFrame(
        {"a": pd.Series([f"text {i}" for i in range(500_000)], dtype=object), "b": 1.0}
    ),
    "every second row": lambda: pd.DataFrame(np.arange(4.0 * N).reshape(-1, 4))[::2],
    "texts in a column": lambda: pd.DataFrame({"a": [f"text {i}" for i in range(500_000)]}),
    "forest": _forest,
    "many small arrays": Columns,
    "bytes": lambda: b"x" * 12_000_000,
    "bytearray": lambda: bytearray(b"x" * 12_000_000),
    "text": lambda: "äx" * 6_000_000,
    "integers": lambda: list(range(3_000_000)),
    "strings": lambda: [f"text {i}" for i in range(800_000)],
    "dict": lambda: {i: str(i) for i in range(800_000)},
    "nested": lambda: [{"a": [float(i)] * 3} for i in range(200_000)],
    "set": lambda: set(range(2_500_000)),
    "deque": lambda: collections.deque(range(3_000_000)),
    "array.array": lambda: array.array("d", range(N)),
    "one number": lambda: 1 << 100_000_000,
}


def _readonly(values: Any) -> Any:
    values.flags.writeable = False
    return values


def equal(a: Any, b: Any) -> bool:
    """Whether two values are alike."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ma.MaskedArray):
        same = np.ma.allequal(a, b) and np.array_equal(np.ma.getmaskarray(a), np.ma.getmaskarray(b))
        return bool(same and a.fill_value == b.fill_value and a.hardmask == b.hardmask)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool(np.array_equal(a, b))
    if isinstance(a, pd.DataFrame):
        return a.equals(b) and list(a.dtypes) == list(b.dtypes)
    if isinstance(a, RandomForestClassifier):
        return bool((a.predict_proba(np.ones((3, 8))) == b.predict_proba(np.ones((3, 8)))).all())
    if isinstance(a, memoryview):
        return (a.format, a.shape, a.tobytes()) == (b.format, b.shape, b.tobytes())
    return bool(a == b)


@pytest.mark.parametrize("name", MAKE)
def test_it_is_the_same_after_a_round_trip(name):
    """Apart from the message, which stays small."""
    value = MAKE[name]()
    packed = payload.dumps(value, blobs.Blobs())

    assert isinstance(packed, payload.Packed)
    assert len(packed.data) < payload.BLOB_BYTES
    assert len(pickle.dumps(packed)) < payload.BLOB_BYTES
    assert equal(value, payload.loads(packed))


@env.task
def size(name: str, x: object) -> bool:
    return equal(x, MAKE[name]())


@env.task
def same(x: object) -> object:
    return x


@env.task
async def tour(name: str) -> list[bool]:
    value = MAKE[name]()
    mapped = [item async for item in flyte.map.aio(same, [value])]
    return [await size.aio(name, value), equal(await same.aio(value), value), equal(mapped[0], value)]


#: One of each way to cross.
WAYS = (
    "columns",
    "masked",
    "objects",
    "object column",
    "many small arrays",
    "bytes",
    "integers",
    "memoryview, strided",
)


@pytest.mark.parametrize("name", WAYS)
def test_it_crosses_in_calls_runs_and_maps(name, run):
    """With the default limit, which is for messages."""
    value = MAKE[name]()

    assert run(tour, name) == [True] * 3
    assert equal(run(same, value), value)


@env.task(max_inline_io_bytes=1_000_000)
def limited(x: object, y: int = 0) -> object:
    return x if y == 0 else [0] * y


@env.task
async def over(kind: str) -> str:
    try:
        await limited.aio(*{"in": ([0] * 2_000_000,), "out": (0, 2_000_000), "apart": (np.zeros(N),)}[kind])
    except flyte.errors.InlineIOMaxBytesBreached as exc:
        return str(exc)
    return "crossed"


def test_a_limit_that_was_set_is_kept(run):
    """Its error names the value, its type and size, and what to do; arrays do not count."""
    assert run(over, "apart") == "crossed"
    for kind, what in (("in", "argument 'x' of large_values.limited, a list of length 2000000"), ("out", "result of large_values.limited, a list of length 2000000")):  # fmt: skip
        text = run(over, kind)
        assert what in text
        assert "max_inline_io_bytes=1,000,000" in text
        assert "leave it out" in text


def test_a_limit_holds_for_runs_too(mode):
    """The root's inputs are inputs."""
    with pytest.raises(flyte.errors.InlineIOMaxBytesBreached, match="argument 'x'"):
        flyte.with_runcontext(mode=mode).run(limited, "a" * 2_000_000)
