"""Hashes of values: what differs in content is told apart, whatever a pickle of it would say."""

from __future__ import annotations

import cmath
import functools
import json
import math
import operator
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flyte_nb.core.values import value_hash
from flyte_nb.core.values.value_hash import content_hash, state_hash

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


def test_what_a_program_patched_and_cannot_be_hashed_is_like_no_other() -> None:
    """Whatever is where it was before."""

    class Stub:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    found = {state_hash(_keyword, [(json, "dumps", Stub())]) for _ in range(50)}
    assert len(found) == 50


class Own:
    """A class of the user's."""


@pytest.mark.parametrize(
    ("value", "alike"),
    [
        ([1.5] * 1_000, True),
        ({"a": [1, "b", (2, None)]}, True),
        ([[1], {"a": {2: "b"}}], True),
        (np.arange(10.0), True),
        (np.array([1, "a"], dtype=object), True),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), True),
        ({1}, False),
        ([1, [2, {"a": frozenset("ab")}]], False),
        (np.array([1, {2}], dtype=object), False),
        (pd.DataFrame({"a": pd.Series([{1}, {2}], dtype=object)}), False),
        ([Own()], False),
        ({"a": Own}, False),
        ((lambda: 1,), False),
        ([[] for _ in range(value_hash.MAX_LOOKED_INTO + 1)], False),
    ],
    ids=range(14),
)
def test_what_pickles_alike_everywhere_is_told_by_its_parts(value: object, alike: bool) -> None:
    """A set, whose order differs, and code of the user's, which travels with its definition, do not."""
    assert alike is value_hash.pickles_alike(((value,), {}))
