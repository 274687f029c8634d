"""Columns that an annotation selects: ``Annotated[pd.DataFrame, {"x": int}]``. Runs in: everywhere.

As in Flyte, a task sees these columns of a table, in this order, and so does who takes its result. The types are for people.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any

#: Classes in whose place a reference to a table (`flyte_nb.io.DataFrame`) may be given: it is read then.
_TABLES = frozenset({"DataFrame", "LazyFrame", "Table"})
_TABLE_PACKAGES = frozenset({"pandas", "polars", "pyarrow"})


def is_table(cls: Any) -> bool:
    """Whether a class is a table of pandas', polars' or pyarrow's."""
    name = getattr(cls, "__name__", "")
    return name in _TABLES and str(getattr(cls, "__module__", "")).partition(".")[0] in _TABLE_PACKAGES


def columns_of(annotation: Any) -> tuple[str, ...]:
    """Names of the columns that an annotation selects; empty if it selects none.

    Args:
        annotation: A type hint. Its columns are a dict, a dataclass, or a class with annotations; nested ones are ``a.b``.
    """
    base = getattr(annotation, "__origin__", None)
    if not hasattr(annotation, "__metadata__") or not (is_table(base) or hasattr(base, "__flyte_of__")):
        return ()
    for each in annotation.__metadata__:
        fields = _fields_of(each)
        if fields:
            return tuple(_flat(fields))
    return ()


def _fields_of(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if dataclasses.is_dataclass(given) or (isinstance(given, type) and not hasattr(given, "result")):
        try:
            return typing.get_type_hints(given)
        except Exception:  # names that are known elsewhere
            return getattr(given, "__annotations__", {})
    return {}


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterable[str]:
    for name, kind in fields.items():
        nested = _fields_of(kind) if isinstance(kind, Mapping) or hasattr(kind, "__annotations__") else {}
        if nested:
            yield from _flat(nested, f"{before}{name}.")
        else:
            yield before + name


def _names(table: Any) -> list[str]:
    if hasattr(table, "collect_schema"):  # a lazy frame of polars', whose `columns` would compute
        return list(table.collect_schema().names())
    return list(getattr(table, "column_names", None) or table.columns)


def has_columns(table: Any, columns: tuple[str, ...]) -> bool:
    """Whether a table, or a reference to one, has these columns and no others."""
    if hasattr(type(table), "__flyte_as__"):
        return bool(table.selected == columns)
    return _names(table) == list(columns)


def select(table: Any, columns: tuple[str, ...]) -> Any:
    """A table, or a reference to one, with these columns only.

    Raises:
        ValueError: It lacks one.
    """
    if hasattr(type(table), "__flyte_as__"):
        return table.__flyte_select__(columns)
    names = _names(table)
    missing = [name for name in columns if name not in names]
    if missing:
        raise ValueError(f"the table has no column {missing[0]!r}; it has {', '.join(map(repr, names[:20]))}")
    if names == list(columns):
        return table
    return table[list(columns)] if hasattr(table, "loc") or not hasattr(table, "select") else table.select(columns)
