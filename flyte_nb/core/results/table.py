"""Table of a run's actions: a row each, with arguments, result, times (``run.to_pandas()``). Runs in: the calling code."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from flyte_nb.core.history.facts import Action, Usage
from flyte_nb.core.history.worker_names import name_of
from flyte_nb.core.results.actions import kept, named_inputs
from flyte_nb.core.runs.run import Run
from flyte_nb.core.transport.payload import loads, nbytes

#: Largest result that is unpickled for a table, in bytes; of a larger one its text is shown.
MAX_VALUE = 1024 * 1024
#: Facts that stand before arguments and results, and behind them.
_BEFORE = ("id", "task", "group")
_AFTER = (
    "phase", "attempts", "queued", "running", "suspended", "cpu", "memory", "bytes_in", "bytes_out", "worker", "cached",
    "error",
)  # fmt: skip


def rows_of(run: Run, task: str = "", group: str = "") -> list[dict[str, Any]]:
    """A row for each action.

    Args:
        run: The run.
        task: Only actions of this task, by its full name or the function's; "" for all.
        group: Only actions of this group; "" for all.

    Returns:
        Rows with the same columns: facts, arguments by name, the result. Times are in seconds, sizes in bytes; "memory" is
        how large the process became meanwhile. What was too short to be measured is None. Dataclasses, dicts and NamedTuples
        are taken apart, one level deep.
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
        _row(action, *payloads)
        for action, payloads in zip(actions, kept(run, actions), strict=True)
    ]  # fmt: skip
    columns = dict.fromkeys((*_BEFORE, *(name for row in rows for name in row if name not in _AFTER), *_AFTER))
    return [{name: row.get(name) for name in columns} for row in rows]


def _row(action: Action, inputs: Any, output: Any) -> dict[str, Any]:
    attempt = action.attempt
    usage = attempt.usage if attempt is not None else Usage()
    running = attempt.busy if attempt is not None else 0.0
    took = action.ended_at - action.started_at if action.ended_at and action.started_at else None
    before = {"id": action.id, "task": action.task, "group": action.group}
    after = {
        "phase": action.phase.value,
        "attempts": attempt.number + 1 if attempt is not None else 0,
        "queued": action.started_at - action.queued_at if action.started_at else None,
        "running": running if took is not None else None,
        "suspended": max(took - running, 0.0) if took is not None else None,
        "cpu": usage.cpu or None,
        "memory": usage.memory or None,
        "bytes_in": usage.taken or None,
        "bytes_out": usage.given or None,
        "worker": name_of(attempt.worker) if attempt is not None else "",
        "cached": action.cached,
        "error": f"{action.error.code}: {action.error.message}" if action.error is not None else None,
    }
    row: dict[str, Any] = dict(before)
    values: list[tuple[str, Any, str]] = []
    if inputs is not None:
        values += [(name, value, "input") for name, value in named_inputs(action, inputs).items()]
    if output is not None and nbytes(output) <= MAX_VALUE:
        values.append(("result", loads(output), "result"))
    elif action.phase.is_success:
        values.append(("result", action.preview or None, "result"))
    for name, value, of in values:
        for column, part in _parts(name, value, of):
            row[f"{of}.{column}" if column in row or column in after else column] = part
    return {**row, **after}


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
    """The actions as a `pyarrow.Table`; values that Arrow does not know are texts.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pyarrow = _need("pyarrow", "to_arrow")
    rows = rows_of(run, task, group)
    columns = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
            columns[name] = pyarrow.array([None if value is None else str(value) for value in values])
    return pyarrow.table(columns)


def to_polars(run: Run, *, task: str = "", group: str = "") -> Any:
    """The actions as a `polars.DataFrame`.

    Raises:
        ImportError: polars is not installed.
    """
    polars = _need("polars", "to_polars")
    return polars.DataFrame(rows_of(run, task, group), infer_schema_length=None, strict=False)
