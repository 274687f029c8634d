"""Streams that refuse to grow beyond a limit, so that pickling or printing something huge ends early. Runs in: everywhere."""

from __future__ import annotations

import io
from typing import Any


class FullError(Exception):
    """More was written to a bounded stream than its limit."""


class _Bounded:
    """Takes what fits of a write that goes over the limit, and raises.

    Args:
        limit: Bytes, or characters.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self: Any, data: Any, /) -> int:
        left = self._limit - self.tell()
        if len(data) <= left:
            return super().write(data)  # type: ignore[misc,no-any-return]
        super().write(data[: max(left, 0)])  # type: ignore[misc]
        raise FullError


class BoundedBytes(_Bounded, io.BytesIO):
    """Bytes in memory, at most ``limit`` of them."""


class BoundedText(_Bounded, io.StringIO):
    """Text in memory, at most ``limit`` characters of it."""
