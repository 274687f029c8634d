"""Table of texts for a data frame or an array, small. Runs in: everywhere.

Frames and arrays of well-known packages only: nothing of the user's own is called.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from flyte_nb.core.values import redact

logger: logging.Logger = logging.getLogger("flyte")

#: Rows and columns of a table: the first and the last ones.
MAX_ROWS, MAX_COLUMNS = 20, 20
#: Longest text of a table's cell, in characters.
MAX_CELL = 120

#: ``head``: texts; ``rows``: lists of texts; ``said``: its size in words; ``index``: the first column names the rows.
Table = dict[str, Any]


def table_of(value: Any) -> Table | None:
    """Head, rows and size of a data frame, a series or a two-dimensional array; None for anything else."""
    root = type(value).__module__.partition(".")[0]
    kind = type(value).__name__
    try:
        if root == "pandas" and kind in ("DataFrame", "Series"):
            return _of_pandas(value.to_frame() if kind == "Series" else value)
        if root == "polars" and kind == "DataFrame":
            return _of_columns(list(value.columns), value.height, value.width, value[:MAX_ROWS].rows())
        if root == "pyarrow" and kind == "Table":
            few = value.slice(0, MAX_ROWS).select(value.column_names[:MAX_COLUMNS]).to_pylist()
            listed = [list(row.values()) for row in few]
            return _of_columns(list(value.column_names), value.num_rows, value.num_columns, listed)
        if root == "numpy" and kind == "ndarray" and value.ndim == 2 and value.size and value.dtype.kind in "biufcSU":
            rows = [list(row) for row in value[:MAX_ROWS, :MAX_COLUMNS]]
            head = [str(n) for n in range(value.shape[1])]
            return _of_columns(head, value.shape[0], value.shape[1], rows, f" of {value.dtype}")
    except Exception:
        logger.debug("no table of a %s", kind, exc_info=True)
    return None


def _of_pandas(frame: Any) -> Table:
    height, width = frame.shape
    few = frame.iloc[:, :MAX_COLUMNS]
    half = MAX_ROWS // 2
    parts = [few] if height <= MAX_ROWS else [few.iloc[:half], few.iloc[-half:]]
    rows = [
        [_cell(label), *map(_cell, row)]
        for part in parts
        for label, *row in zip(part.index, *(part.iloc[:, n].tolist() for n in range(part.shape[1])), strict=True)
    ]
    if height > MAX_ROWS:
        rows.insert(half, ["…"] * (1 + min(width, MAX_COLUMNS)))
    head = ["", *(_cell(name) for name in few.columns)]
    return {"head": head, "rows": rows, "said": _size(height, width, both_ends=True), "index": True}


def _of_columns(names: list[Any], height: int, width: int, rows: Sequence[Sequence[Any]], more: str = "") -> Table:
    return {
        "head": [_cell(name) for name in names[:MAX_COLUMNS]],
        "rows": [[_cell(item) for item in list(row)[:MAX_COLUMNS]] for row in rows],
        "said": _size(height, width) + more,
    }


def _size(height: int, width: int, *, both_ends: bool = False) -> str:
    rows = f"first and last {MAX_ROWS // 2} rows shown" if both_ends else f"first {MAX_ROWS} rows shown"
    cut = [rows] if height > MAX_ROWS else []
    cut += [f"first {MAX_COLUMNS} columns shown"] if width > MAX_COLUMNS else []
    return f"{height:,} × {width:,}" + (f" ({', '.join(cut)})" if cut else "")


#: Packages whose values may be asked for their text.
_KNOWN = frozenset({"builtins", "datetime", "decimal", "fractions", "numpy", "pandas", "uuid"})


def _cell(value: Any) -> str:
    if isinstance(value, str):
        text = value[:MAX_CELL] + "…" if len(value) > MAX_CELL else value
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif type(value).__module__.partition(".")[0] in _KNOWN and not isinstance(value, (list, dict, tuple, set, bytes)):
        text = str(value)
    else:
        text = f"<{type(value).__name__}>"
    return redact.scrub(text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…")
