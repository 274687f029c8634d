"""Code that fails, for the tests of failure records; in a file of its own, as a user's module is."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from typing import Any

LIMIT = 10


def inner(y: int) -> int:
    both = [y, y + 1]
    return both[y + LIMIT]


def square(x: int) -> int:
    y = x * 2
    return inner(y)


async def waits(x: int) -> int:
    await asyncio.sleep(0)
    return inner(x)


def chained() -> None:
    try:
        {}["a"]  # type: ignore[index]
    except KeyError as exc:
        raise ValueError("no rows") from exc


def recursive(depth: int) -> int:
    return recursive(depth + 1)


class OddError(Exception):
    """An exception whose constructor takes something else than it passes on."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.number = code
        self.lock = threading.Lock()


@dataclasses.dataclass
class Pair:
    left: Any
    right: Any


loadable = True


class Unloadable:
    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        if not loadable:
            raise RuntimeError("not here")


class Sleepy:
    """Everything about it takes seconds."""

    def __init__(self) -> None:
        self.size = 3

    def __repr__(self) -> str:
        time.sleep(30)
        return ""

    def __reduce__(self) -> Any:
        time.sleep(30)

    def __getattr__(self, name: str) -> Any:
        time.sleep(30)

    __str__ = __repr__


class Raising:
    """Everything about it raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __reduce__(self) -> Any:
        raise RuntimeError("no pickle")

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


def fails_holding(value: Any) -> None:
    raise ValueError("fails holding one")


def fails_with(**values: Any) -> None:
    held = values
    raise ValueError(f"fails holding {len(held)}")
