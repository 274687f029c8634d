"""Sheet of a run: its table as a person looks at it: sorted, filtered, page by page, as text to paste, as numbers to plot.

A sheet holds plain cells only (numbers, short texts), in columns; what a cell shows of a value runs none of the user's code.

Runs in: engine thread; sorted, filtered and written in any other.
"""

from __future__ import annotations

import csv
import io
import math
import operator
import re
import threading
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple

from flyte_nb.core.results.table import FACTS, UNITS
from flyte_nb.core.values import redact
from flyte_nb.core.values.describe import brief, plain

#: Rows of a sheet at most; `Run.to_pandas` has all.
MAX_ROWS = 100_000
#: Columns of a sheet at most.
MAX_COLUMNS = 200
#: Longest text of a cell, in characters.
CELL_CHARS = 200
#: Different texts of a column up to which it is plotted, by category.
MAX_CATEGORIES = 24
#: Points of a plot at most; of more, every nth is drawn.
MAX_POINTS = 20_000
#: Longest table as text, in characters.
MAX_TEXT = 32_000_000

#: Packages whose scalars are numbers, and whose values have a short text of their own.
_NUMERIC, _TEXTS = frozenset({"numpy", "decimal", "fractions"}), frozenset({"datetime", "uuid", "pathlib", "pandas"})

#: Facts without a text of the user's.
_PLAIN = FACTS - {"group", "error"}

Cell = None | bool | int | float | str


class Column(NamedTuple):
    """What is said of a column."""

    name: str
    #: "fact", "input" or "result".
    of: str
    #: "s" for seconds, "B" for bytes, "" for none.
    unit: str
    #: Whether all its values are numbers.
    is_numeric: bool
    #: Different values, as far as they matter: 0 for none, 1, or more.
    varies: int


class Order(NamedTuple):
    """Which rows are looked at, and in which order."""

    #: Words that all must occur in a row; ``loss<0.1``, ``depth=3``.
    text: str = ""
    #: A column; "": as the calls came.
    sort: str = ""
    descending: bool = False


class CellRow(NamedTuple):
    """One row on its way into a sheet."""

    number: int
    cells: dict[str, Cell]
    #: Columns of the result.
    results: list[str]


def cell_row(number: int, row: Mapping[str, Any], results: list[str]) -> CellRow:
    """The cells of a row of `flyte_nb.core.results.table.row_of`."""
    cells = {name: cell_of(name, value) for name, value in row.items()}
    return CellRow(number, cells, results)


def cell_of(name: str, value: Any) -> Cell:
    """What a cell shows of a value."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value  # type: ignore[no-any-return]
    if kind is int:
        return value if -(2**53) <= value <= 2**53 else brief(value, CELL_CHARS)
    if name in _PLAIN:
        return str(value)[:CELL_CHARS]
    if name not in FACTS and redact.hides(name.rpartition(".")[2], value):
        return redact.MASK
    if kind is str:
        return plain(redact.scrub_start(value, CELL_CHARS)[:CELL_CHARS])
    return _other(kind, value)


def _other(kind: type, value: Any) -> Cell:
    """Of a type that is not Python's plainest. Only packages that are known are asked for anything."""
    package = kind.__module__.partition(".")[0] if type(kind.__module__) is str else ""
    if package in _NUMERIC and getattr(value, "shape", ()) == ():
        try:
            return bool(value) if kind.__name__ in ("bool", "bool_") else float(value)
        except (TypeError, ValueError, OverflowError):
            return plain(str(value))[:CELL_CHARS]
    if kind is timedelta:
        return float(value.total_seconds())
    if package in _TEXTS and not hasattr(value, "shape"):
        return plain(redact.scrub_start(str(value), CELL_CHARS)[:CELL_CHARS])
    if issubclass(kind, Enum):
        return f"{kind.__name__}.{value._name_}"
    return brief(value, CELL_CHARS)


class Sheet:
    """Cells by column, and the actions whose rows they are.

    Args:
        total: Rows that it will have.
        left_out: Rows that it will not have, beyond `MAX_ROWS`.
    """

    def __init__(self, total: int, left_out: int = 0) -> None:
        self.total = total
        self.left_out = left_out
        #: Numbers of the actions, row by row.
        self.numbers: array[int] = array("I")
        #: Rows whose actions had not ended when they were read.
        self.going = 0
        self._cells: dict[str, list[Cell]] = {}
        self._results: set[str] = set()
        self._texts: list[str] = []
        self._found: tuple[tuple[Order, int], Sequence[int]] | None = None
        #: Held while rows are looked for: two requests may come at once.
        self._looking = threading.Lock()

    def __len__(self) -> int:
        return len(self.numbers)

    def extend(self, rows: Iterable[CellRow]) -> None:
        """Add rows at the end."""
        for row in rows:
            at = len(self.numbers)
            for name, cell in row.cells.items():
                column = self._cells.get(name)
                if column is None:
                    if len(self._cells) >= MAX_COLUMNS:
                        continue
                    column = self._cells[name] = []
                if len(column) < at:
                    column.extend([None] * (at - len(column)))
                column.append(cell)
            self._results.update(row.results)
            self.numbers.append(row.number)

    @property
    def names(self) -> list[str]:
        """Columns, in the order of `Run.to_pandas`: facts, arguments and results, facts."""
        known = list(self._cells)  # rows may be added meanwhile
        values = [name for name in known if name not in FACTS]
        facts = [name for name in known if name in FACTS]
        before = [name for name in facts if name in ("id", "task", "group")]
        values.sort(key=lambda name: name in self._results)
        return [*before, *values, *(name for name in facts if name not in before)]

    def columns(self) -> list[Column]:
        """What there is to say of each."""
        return [self._column(name) for name in self.names]

    def _column(self, name: str) -> Column:
        cells = self._cells[name]
        kinds = set(map(type, cells)) - {type(None)}
        of = "fact" if name in FACTS else "result" if name in self._results else "input"
        different: set[Cell] = set()
        for cell in cells:
            if cell is not None:
                different.add(cell)
            if len(different) > MAX_CATEGORIES:
                break
        return Column(
            name,
            of,
            UNITS.get(name, "") if of == "fact" else "",
            bool(kinds) and kinds <= {int, float, bool},
            len(different),
        )

    def _cell(self, name: str, row: int) -> Cell:
        cells = self._cells[name]
        return cells[row] if row < len(cells) else None

    def rows(self, wanted: Sequence[int], names: Sequence[str]) -> list[list[Cell]]:
        """Cells of some rows, in some columns."""
        known = [name for name in names if name in self._cells]
        return [[self._cell(name, row) for name in known] for row in wanted]

    # -- which rows, in which order -------------------------------------------------------------------------------

    def ordered(self, order: Order) -> Sequence[int]:
        """The rows that are wanted, in order."""
        with self._looking:
            n = len(self)
            known = self._found
            if known is not None and known[0] == (order, n):
                return known[1]
            rows: Sequence[int] = self._filtered(order.text, n)
            if order.sort in self._cells:
                rows = self._sorted(rows, order.sort, order.descending)
            elif order.descending:
                rows = rows[::-1]
            self._found = ((order, n), rows)
            return rows

    def _sorted(self, rows: Sequence[int], name: str, descending: bool) -> list[int]:
        """Numbers, then texts, then what has no value, whichever way."""
        numeric, texts, nothing = list[int](), list[int](), list[int]()
        for row in rows:
            cell = self._cell(name, row)
            missing = cell is None or cell != cell  # noqa: PLR0124 - not a number
            (nothing if missing else texts if type(cell) is str else numeric).append(row)
        cells = self._cells[name]
        key: Callable[[int], Any] = self.numbers.__getitem__ if name == "id" else cells.__getitem__
        for part in (numeric, texts):
            part.sort(key=key, reverse=descending)
        return [*texts, *numeric, *nothing] if descending else [*numeric, *texts, *nothing]

    def _filtered(self, text: str, n: int) -> Sequence[int]:
        tests, words = self._tests(text)
        rows: Sequence[int] = range(n)
        for name, test in tests:
            rows = [row for row in rows if test(self._cell(name, row))]
        if words:
            hay = self._haystack(n)
            rows = [row for row in rows if all(word in hay[row] for word in words)]
        return rows

    def _tests(self, text: str) -> tuple[list[tuple[str, Callable[[Cell], bool]]], list[str]]:
        """Comparisons of columns, and words."""
        tests: list[tuple[str, Callable[[Cell], bool]]] = []
        words: list[str] = []
        for word in text.split():
            found = _COMPARISON.fullmatch(word)
            name = self._named(found[1]) if found else ""
            if found and name:
                tests.append((name, _test(found[2], found[3])))
            else:
                words.append(word.casefold())
        return tests, words

    def _named(self, word: str) -> str:
        """The column that a word names, by its end if no other ends so; "" for none."""
        word = word.casefold()
        known = list(self._cells)
        found = [name for name in known if name.casefold() == word]
        found = found or [name for name in known if name.casefold().endswith(f".{word}")]
        return found[0] if len(found) == 1 else ""

    def _haystack(self, n: int) -> list[str]:
        names = list(self._cells)
        for row in range(len(self._texts), n):
            cells = (self._cell(name, row) for name in names)
            self._texts.append("\n".join([str(cell) for cell in cells if cell is not None]).casefold())
        return self._texts

    # -- as text, and as numbers ----------------------------------------------------------------------------------

    def text(self, order: Order, names: Sequence[str], *, tabs: bool) -> str:
        """The table as tab-separated or comma-separated values, at most about `MAX_TEXT` characters."""
        out = io.StringIO()
        known = [name for name in names if name in self._cells]
        writer = csv.writer(out, dialect="excel-tab" if tabs else "excel", lineterminator="\n")
        writer.writerow(known)
        for row in self.ordered(order):
            writer.writerow([self._cell(name, row) for name in known])
            if out.tell() > MAX_TEXT:
                break
        return out.getvalue()

    def plotted(
        self, order: Order, names: Sequence[str]
    ) -> tuple[array[int], list[tuple[array[float], list[str]]], int]:
        """What there is to plot: of the rows that have a value in each of the columns, at most `MAX_POINTS`.

        Returns:
            Numbers of actions; by column, values and the names of categories (none where they are numbers); rows in all.
        """
        scales = [self._categories(name) for name in names if name in self._cells]
        known = [name for name in names if name in self._cells]
        rows = [
            row
            for row in self.ordered(order)
            if all(_plottable(self._cell(name, row), scale) for name, scale in zip(known, scales, strict=True))
        ]
        step = -(-len(rows) // MAX_POINTS) or 1
        shown = rows[::step]
        columns = []
        for name, scale in zip(known, scales, strict=True):
            cells = (self._cell(name, row) for row in shown)
            values = [scale[str(cell)] if scale else float(cell) for cell in cells]  # type: ignore[arg-type]  # it is a number
            columns.append((array("d", values), list(scale)))
        return array("I", [self.numbers[row] for row in shown]), columns, len(rows)

    def _categories(self, name: str) -> dict[str, int]:
        """Texts of a column in order, if it has some and not too many; empty for numbers."""
        cells = self._cells[name]
        if all(type(cell) is not str for cell in cells):
            return {}
        texts = sorted({str(cell) for cell in cells if cell is not None})
        return {text: place for place, text in enumerate(texts)} if len(texts) <= MAX_CATEGORIES else {}


def _plottable(cell: Cell, scale: Mapping[str, int]) -> bool:
    if cell is None:
        return False
    if scale:
        return str(cell) in scale
    return not isinstance(cell, str) and math.isfinite(cell)


_COMPARISON = re.compile(r"([A-Za-z_][\w.]*)(<=|>=|!=|==|=|<|>)(\S+)")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "==": operator.eq,
    "!=": operator.ne,
}  # fmt: skip


def _test(sign: str, wanted: str) -> Callable[[Cell], bool]:
    """Whether a cell compares so with what was typed: as numbers where both are."""
    compare = _OPERATORS[sign]
    text = wanted.casefold()
    try:
        number = {"true": 1.0, "false": 0.0}.get(text) if text in ("true", "false") else float(wanted)
    except ValueError:
        number = None

    def test(cell: Cell) -> bool:
        if cell is None:
            return sign == "!="
        if type(cell) is not str:
            return number is not None and compare(cell, number)
        return compare(cell.casefold(), text)

    return test
