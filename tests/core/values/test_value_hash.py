"""Hashes of values: what differs in content is told apart, whatever a pickle of it would say."""

from __future__ import annotations

import cmath
import functools
import math
import operator
from typing import Any

import pytest

from flyte_nb.core.values.value_hash import content_hash

FIRST, SECOND = object(), object()


def _keyword(n: Any) -> Any:
    def made(x: int, *, k: Any = n) -> Any:
        return x * k

    return made


def _closed(a: Any, b: Any) -> Any:
    return lambda: (a, b)


def _counted(n: int) -> Any:
    made = _closed(1, 2)
    made.n = n
    return made


def _dispatching(n: int) -> Any:
    made = functools.singledispatch(_closed(1, 2))
    made.register(int, lambda x: x * n)
    return made


#: By name: two values that are not the same.
PAIRS: dict[str, tuple[Any, Any]] = {
    "keyword defaults": (_keyword([2]), _keyword([3])),
    "empty and full variables": (_closed(None, [3]), _closed([3], None)),
    "attributes of a function": (_counted(1), _counted(2)),
    "cached functions": (functools.lru_cache(_closed(1, 2)), functools.lru_cache(_closed(1, 3))),
    "registered functions": (_dispatching(1), _dispatching(2)),
    "sentinels": (FIRST, SECOND),
    "functions of one name": (math.sqrt, cmath.sqrt),
    "partials of functions of one name": (functools.partial(math.pow, 2), functools.partial(operator.pow, 2)),
    "a set and a frozenset": ({1}, frozenset({1})),
    "truth and one": (True, 1),
    "zeros": (0.0, -0.0),
}


@pytest.mark.parametrize("name", PAIRS)
def test_other_values_have_other_hashes(name: str) -> None:
    """And equal ones the same again."""
    first, second = PAIRS[name]

    assert content_hash(first) == content_hash(first) != content_hash(second)
