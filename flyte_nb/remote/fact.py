"""Fact: a read-only attribute that is one of the ``facts`` of its object, as they are now. Runs in: everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

F = TypeVar("F")
T = TypeVar("T")


class Fact(Generic[F, T]):
    """A read-only attribute: what `read` gives of the object's ``facts``."""

    def __init__(self, read: Callable[[F], T], doc: str) -> None:
        self._read = read
        self.__doc__ = doc

    @overload
    def __get__(self, holder: None, owner: type) -> Fact[F, T]: ...
    @overload
    def __get__(self, holder: Any, owner: type | None = None) -> T: ...
    def __get__(self, holder: Any, owner: type | None = None) -> Any:
        return self if holder is None else self._read(holder.facts)

    def __set__(self, holder: object, value: object) -> None:
        raise AttributeError(f"{holder!r} is read-only.")
