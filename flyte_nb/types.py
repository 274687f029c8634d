"""Names of Flyte's type system, of which values that are pickled need none: they construct. Runs in: everywhere."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from flyte_nb.core.settings.notices import notice_once

T = TypeVar("T")


class TypeTransformerFailedError(TypeError, AssertionError, ValueError):
    """Flyte could not convert a value. Never raised here."""


class TypeTransformer(Generic[T]):
    """Base of Flyte's converters. Constructs; nothing is converted here.

    Args:
        name: Name of the converter.
        t: The type it converts.
    """

    def __init__(self, name: str, t: type[T], enable_type_assertions: bool = True) -> None:
        self.name = name
        self.python_type = t
        self.type_assertions_enabled = enable_type_assertions


class TypeEngine:
    """Flyte's registry of converters. Accepts registrations; nothing is converted here."""

    @classmethod
    def register(cls, transformer: Any, additional_types: list[type] | None = None) -> None:  # noqa: ARG003 - Flyte's
        """Accept a converter, and log once that it has no effect: values are pickled as they are."""
        notice_once(
            "type_transformer",
            "Accepted without effect: type transformers; values cross between tasks pickled, as they are.",
        )


class FlytePickle(Generic[T]):
    """Marks a type that Flyte pickles. Here all are."""


@runtime_checkable
class Renderable(Protocol):
    """Anything that can show a value as HTML for a report."""

    def to_html(self, python_value: Any) -> str:
        """The HTML of a value."""
        ...


__all__ = ["FlytePickle", "Renderable", "TypeEngine", "TypeTransformer", "TypeTransformerFailedError"]
