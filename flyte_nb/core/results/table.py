"""Table of a run's actions: a row each, with arguments, result, times (``run.to_pandas()``). Runs in: the calling code."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flyte_nb.core.history.facts import Action, Usage
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.results.actions import kept, named_inputs
from flyte_nb.core.results.label_parts import told_inputs
from flyte_nb.core.runs.run import Run
from flyte_nb.core.transport.payload import Payload, loads, nbytes

#: Largest result that is unpickled for a table, in bytes; of a larger one its text is shown.
MAX_VALUE = 1024 * 1024
#: Facts that stand before arguments and results, and behind them.
_BEFORE = ("id", "task", "group")
_AFTER = (
    "phase", "attempts", "queued", "running", "suspended", "cpu", "memory", "bytes_in", "bytes_out", "worker", "cached",
    "error",
)  # fmt: skip
#: Columns that are no values of the user's.
FACTS = frozenset((*_BEFORE, *_AFTER))
#: What facts are counted in: seconds, bytes.
UNITS = {"queued": "s", "running": "s", "suspended": "s", "cpu": "s", "memory": "B", "bytes_in": "B", "bytes_out": "B"}


def rows_of(run: Run, task: str = "", group: str = "") -> list[dict[str, Any]]:
    """A row for each action.

    Args:
        run: The run.
        task: Only actions of this task, by its full name or the function's; "" for all.
        group: Only actions of this group; "" for all.

    Returns:
        Rows with the same columns: facts, arguments by name, the result. Times are in seconds, sizes in bytes; "memory" is
        how large the process became meanwhile. What was too short to be measured is None. Dataclasses, dicts and NamedTuples
        are taken apart, one level deep. Of arguments that are not kept (over 64 kB), what the call's label tells.
    """
    actions = [
        action
        for action in run.backend.actions
        if action.number >= 0
        and action.kind != "root"
        and (not task or task in {action.task, action.task.rpartition(".")[2]})
        and (not group or action.group == group)
    ]
    root = run.backend.action
    if not actions and root is not None and not group:  # of a `flyte.run`, whose task calls no other
        actions = [root]
    rows = [
        row_of(action, *payloads)[0]
        for action, payloads in zip(actions, kept(run, actions), strict=True)
    ]  # fmt: skip
    columns = dict.fromkeys((*_BEFORE, *(name for row in rows for name in row if name not in _AFTER), *_AFTER))
    return [{name: row.get(name) for name in columns} for row in rows]


def row_of(action: Action, inputs: Payload | None, output: Payload | None) -> tuple[dict[str, Any], list[str]]:
    """One action's row, and which of its columns are of the result. Values are unpickled: it may run the user's code."""
    attempt = action.attempt
    usage = attempt.usage if attempt is not None else Usage()
    running = attempt.busy if attempt is not None else 0.0
    took = action.ended_at - action.started_at if action.ended_at and action.started_at else None
    row: dict[str, Any] = {"id": action.id, "task": action.task, "group": action.group}
    after = {
        "phase": action.phase.value,
        "attempts": attempt.number + 1 if attempt is not None else 0,
        "queued": action.started_at - action.queued_at if action.started_at else None,
        "running": round(running, 9) if took is not None else None,
        "suspended": max(took - running, 0.0) if took is not None else None,
        "cpu": usage.cpu or None,
        "memory": usage.memory or None,
        "bytes_in": usage.taken or None,
        "bytes_out": usage.given or None,
        "worker": name_of(attempt.worker) if attempt is not None else "",
        "cached": action.cached,
        "error": f"{action.error.code}: {action.error.message}" if action.error is not None else None,
    }
    results = []
    for of, name, part in _values(action, inputs, output):
        column = f"{of}.{name}" if name in row or name in after else name
        row[column] = part
        if of == "result":
            results.append(column)
    return {**row, **after}, results


def _values(action: Action, inputs: Payload | None, output: Payload | None) -> Iterable[tuple[str, str, Any]]:
    """Whose it is, column and value of each part of arguments and result; a text in place of what cannot be made here."""
    try:
        named = named_inputs(action, inputs) if inputs is not None else told_inputs(action)
    except Exception as exc:
        named = {"inputs": f"<{type(exc).__name__}: {exc}>"}
    for name, value in named.items():
        yield from (("input", column, part) for column, part in _parts(name, value, "input"))
    result: Any = None
    if output is not None and nbytes(output) <= MAX_VALUE:
        try:
            result = loads(output)
        except Exception:  # its text is what there is here
            result = action.preview or None
    elif action.phase.is_success:
        result = action.preview or None
    if output is not None or action.phase.is_success:
        yield from (("result", column, part) for column, part in _parts("result", result, "result"))


def _parts(name: str, value: Any, of: str) -> Iterable[tuple[str, Any]]:
    """Columns of one value."""
    fields: Mapping[Any, Any] | None = None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = dict(zip(value._fields, value, strict=True))
    elif isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        fields = value
    if fields is None:
        return [(name, value)]
    prefix = "" if of == "result" else f"{name}."
    return [(f"{prefix}{key}", part) for key, part in fields.items()]


def _need(module: str, method: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(
            f"run.{method}() needs {module}, which is not installed here: `pip install {module}`. run.to_rows() gives the same "
            "as plain dictionaries."
        ) from None


def to_pandas(run: Run, *, task: str = "", group: str = "") -> Any:
    """The actions as a `pandas.DataFrame`, a row each: `rows_of`.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = _need("pandas", "to_pandas")
    rows = rows_of(run, task, group)
    return pandas.DataFrame(rows, columns=list(rows[0]) if rows else [*_BEFORE, *_AFTER])


def to_arrow(run: Run, *, task: str = "", group: str = "") -> Any:
    """The actions as a `pyarrow.Table`; values that Arrow does not know are texts, as are those of a column of several types.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pyarrow = _need("pyarrow", "to_arrow")
    wrong = (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError, OverflowError)
    return pyarrow.table(
        {name: _typed(pyarrow.array, values, wrong) for name, values in _columns(run, task, group).items()}
    )


def to_polars(run: Run, *, task: str = "", group: str = "") -> Any:
    """The actions as a `polars.DataFrame`; values as in `to_arrow`.

    Raises:
        ImportError: polars is not installed.
    """
    polars = _need("polars", "to_polars")

    def series(values: list[Any]) -> Any:
        made = polars.Series(values, strict=True)
        if made.dtype == polars.Object:  # nothing reads such a column
            raise TypeError
        return made

    wrong = (TypeError, ValueError, OverflowError, polars.exceptions.PolarsError)
    return polars.DataFrame(
        {name: _typed(series, values, wrong) for name, values in _columns(run, task, group).items()}
    )


def _columns(run: Run, task: str, group: str) -> dict[str, list[Any]]:
    rows = rows_of(run, task, group)
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else (*_BEFORE, *_AFTER))}


def _typed(make: Callable[[list[Any]], Any], values: list[Any], wrong: tuple[type[Exception], ...]) -> Any:
    """A column of one type: of numbers, or of texts, where values are of several."""
    try:
        return make(values)
    except wrong:
        pass
    numeric = all(value is None or type(value) in (int, float) for value in values)
    to: Callable[[Any], Any] = float if numeric else str
    return make([None if value is None else to(value) for value in values])
