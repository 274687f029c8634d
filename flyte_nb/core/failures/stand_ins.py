"""Stand-ins for values that a failure record does not hold: a summary, or "redacted". Runs in: everywhere.

Nothing here calls a method of a foreign class: a ``repr`` may raise, sleep or print a gigabyte. Shown of a value
are its type, the length of a built-in container, and shape and dtype of the arrays and frames of well-known packages.
"""

from __future__ import annotations

from typing import Any, Self

from flyte_nb.core.values.describe import ATOMS, type_name

#: Attributes of arrays that `describe` has in its text already.
_SAID_BY_THE_TEXT = frozenset({"shape", "dtype", "columns"})


class Summary:
    """Stands for a remote value that was not kept: too large, not picklable, or of a class whose code would have to run.

    Its ``repr`` has the type, the shape and the reason. Where the value was an ordinary object, its attributes (small
    values, or summaries again) can be read as on the original: ``config.rate``.
    """

    __slots__ = ("_attributes", "_reason", "_text")

    def __init__(self, text: str, reason: str = "", attributes: dict[str, Any] | None = None) -> None:
        self._text = text
        self._reason = reason
        self._attributes = attributes or {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Summary.__slots__:
            raise AttributeError(name)
        try:
            return self._attributes[name]
        except KeyError:
            kept = ", ".join(self._attributes) or "none"
            raise AttributeError(f"{self!r} stands for a remote value; attributes kept: {kept}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._attributes]

    def __repr__(self) -> str:
        shown = [(name, value) for name, value in self._attributes.items() if name not in _SAID_BY_THE_TEXT]
        parts = [f"{name}={_short(value)}" for name, value in shown[:6]]
        if len(shown) > len(parts):
            parts.append("...")
        inside = f" {', '.join(parts)}" if parts else ""
        reason = f" ({self._reason})" if self._reason else ""
        return f"<remote {self._text}{inside}{reason}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Summary, (self._text, self._reason, self._attributes)


class Redacted:
    """Stands for a value that was hidden because its name, or the value itself, looks like a secret."""

    __slots__ = ("_why",)

    def __init__(self, why: str = "") -> None:
        self._why = why

    def __repr__(self) -> str:
        return f"<redacted{': ' + self._why if self._why else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Redacted, (self._why,)


class Lost:
    """Stands for an object whose class is missing where it is unpickled: its attributes and items can be read."""

    _name = "object"

    def __new__(cls, *args: Any, **_kwargs: Any) -> Self:
        """Called by pickle with whatever the missing class takes."""
        made = super().__new__(cls)
        made.__dict__["_items"] = list(args)
        return made

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Called by pickle, for an item of a list."""
        self.__dict__["_items"].append(item)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["_items"].append((key, value))

    def __repr__(self) -> str:
        own = dict(self.__dict__)
        items = own.pop("_items", [])  # An exception is made without ``__new__``.
        shown = list(own.items())
        parts = [*map(_short, items[:6]), *(f"{name}={_short(value)}" for name, value in shown[:6])]
        return f"<remote {self._name}{' ' if parts else ''}{', '.join(parts)} (its class is not known here)>"


def lost_class(name: str) -> type[Lost]:
    """A class whose instances stand for those of a missing class of this qualified name."""
    short = name.rpartition(".")[2]
    return type(short, (Lost,), {"_name": short})


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (*ATOMS, str, bytes, Summary, Redacted)) else f"<{type_name(value)}>"
    return text if len(text) <= 40 else text[:37] + "..."
