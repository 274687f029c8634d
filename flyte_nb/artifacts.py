"""``flyte.artifacts``: marks of outputs are accepted without effect: nothing keeps artifacts. Runs in: everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flyte_nb.core.settings.notices import notice_once

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What an artifact would be known by."""

    name: str
    version: str | None = None
    description: str | None = None
    attrs: Mapping[str, str] | None = None
    card: Any = None
    kind: str | None = None
    partitions: Mapping[str, Any] | None = None
    parents: tuple[Any, ...] | None = None
    version_from_content: bool = False

    @classmethod
    def create_model_metadata(cls, *, name: str, **facts: Any) -> Metadata:
        """Metadata of a model; facts that are no fields become ``attrs``."""
        fields = {key: facts.pop(key) for key in list(facts) if key in cls.__dataclass_fields__ and key != "attrs"}
        attrs = {**(facts.pop("attrs", None) or {}), **{key: str(value) for key, value in facts.items()}}
        return cls(name=name, kind="model", attrs=attrs, **fields)


@dataclass(frozen=True)
class Card:
    """Text that an artifact would be shown with."""

    content: str = ""
    format: str = "markdown"
    card_type: str | None = None


def new(obj: T, metadata: Metadata) -> T:
    """The value itself, unmarked; logged once.

    Args:
        obj: A File, Dir or DataFrame.
        metadata: What it would be known by.
    """
    _notice(metadata.name)
    return obj


@contextlib.contextmanager
def produces(**outputs: Metadata) -> Iterator[None]:
    """Run a block; its tasks' outputs are left unmarked, which is logged once."""
    _notice(", ".join(metadata.name for metadata in outputs.values()))
    yield


def _notice(name: str) -> None:
    notice_once(
        "artifacts", f"Accepted without effect: artifacts ({name}); nothing keeps them, the value is passed as it is."
    )


__all__ = ["Card", "Metadata", "new", "produces"]
