"""Tables: columns that an annotation selects, and handlers that the program registers (`flyte.io.extend`)."""

from __future__ import annotations

import functools
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cloudpickle
import pandas as pd
import pytest

import flyte_nb as flyte
from flyte_nb.core.transport.companions import COMPANIONS
from flyte_nb.core.transport.payload import loads_code
from flyte_nb.core.values import pickler
from flyte_nb.core.values.by_value.classes import Classes
from flyte_nb.io import DataFrame, extend
from flyte_nb.io.extend import DataFrameDecoder, DataFrameEncoder, DataFrameTransformerEngine

env = flyte.TaskEnvironment("tables")


@dataclass
class Columns:
    """Named as a class."""

    y: str
    x: int


@dataclass
class Nested:
    """With a column of columns."""

    a: Columns


WHOLE = pd.DataFrame({"y": ["a", "b"], "x": [1, 2], "z": [0.1, 0.2]})
DOTTED = pd.DataFrame({"a.y": ["a"], "a.x": [1], "b": [2]})


def names(table: Any) -> list[str]:
    """Names of its columns, and as what it came."""
    return list((table.open(pd.DataFrame).all_sync() if isinstance(table, DataFrame) else table).columns)


def shows(hint: Any) -> Any:
    """A task that takes an argument of that type, and says which columns it sees."""

    def look(table: Any) -> list:
        each = table.values() if isinstance(table, dict) else table if isinstance(table, list) else [table]
        return [names(one) for one in each]

    look.__annotations__["table"] = hint
    return env.task(look)


FRAME_OF_X = Annotated[pd.DataFrame, {"x": int}]


@pytest.mark.parametrize(
    ("hint", "value", "seen"),
    [
        (FRAME_OF_X, WHOLE, [["x"]]),
        (FRAME_OF_X, DataFrame.from_df(WHOLE), [["x"]]),
        (Annotated[pd.DataFrame, OrderedDict(z=float, y=str)], WHOLE, [["z", "y"]]),
        (Annotated[pd.DataFrame, Columns], WHOLE, [["y", "x"]]),
        (Annotated[pd.DataFrame, {"a": {"x": int}}], DOTTED, [["a.x"]]),
        (Annotated[pd.DataFrame, Nested], DOTTED, [["a.y", "a.x"]]),
        (Annotated[pd.DataFrame, "parquet", {"x": int}], WHOLE, [["x"]]),
        (Annotated[DataFrame, {"x": int}], WHOLE, [["x"]]),
        (Annotated[DataFrame, {"x": int}], DataFrame.from_df(WHOLE), [["x"]]),
        (Annotated[DataFrame, Columns], DataFrame.from_df(WHOLE), [["y", "x"]]),
        (list[FRAME_OF_X], [WHOLE, WHOLE], [["x"], ["x"]]),
        (dict[str, FRAME_OF_X], {"k": WHOLE}, [["x"]]),
        (Annotated[pd.DataFrame, Columns] | None, WHOLE, [["y", "x"]]),
        (Annotated[pd.DataFrame, {}], WHOLE, [["y", "x", "z"]]),
        (Annotated[pd.DataFrame, "csv"], WHOLE, [["y", "x", "z"]]),
    ],
)
def test_an_annotation_selects_columns(run, hint, value, seen):
    """In the order it names them, of frames and of references."""
    assert seen == run(shows(hint), value)


@env.task
def gives_x(table: pd.DataFrame) -> FRAME_OF_X:
    return table


@env.task
def gives_reference(table: pd.DataFrame) -> Annotated[DataFrame, {"x": int}]:
    return DataFrame.from_df(table)


@env.task
def gives_two(table: pd.DataFrame) -> tuple[FRAME_OF_X, int]:
    return table, 1


@env.task
async def takes_results(table: pd.DataFrame) -> list:
    pair = await gives_two.aio(table)
    return [names(await gives_x.aio(table)), names(await gives_reference.aio(table)), names(pair[0])]


def test_results_have_the_columns_that_are_named(run):
    """Who takes them sees no others."""
    assert [["x"], ["x"], ["x"]] == run(takes_results, WHOLE)
    assert (DataFrame.columns(), DataFrame.from_df(WHOLE).column_names()) == ({}, [])


def test_a_column_that_is_missing_is_named(run):
    with pytest.raises(flyte.errors.ArgumentError, match="no column 'w'; it has 'y', 'x', 'z'"):
        run(shows(Annotated[pd.DataFrame, {"w": int}]), WHOLE)


# -- handlers ----------------------------------------------------------------------------------------------------------


class Rows:
    """A table of a type of its own, which nothing can pickle."""

    def __init__(self, rows: list[dict]) -> None:
        self.rows = rows
        self.lock = threading.Lock()


class WriteRows(DataFrameEncoder):
    def __init__(self) -> None:
        super().__init__(Rows, None, "jsonl")

    async def encode(self, dataframe: Any, structured_dataset_type: Any) -> str:
        Path(dataframe.uri).write_text("".join(f"{json.dumps(row)}\n" for row in dataframe.val.rows))
        return dataframe.uri


class ReadRows(DataFrameDecoder):
    def __init__(self) -> None:
        super().__init__(Rows, None, "jsonl")

    async def decode(self, flyte_value: Any, current_task_metadata: Any) -> Rows:
        wanted = [column.name for column in current_task_metadata.structured_dataset_type.columns]
        rows = [json.loads(line) for line in Path(flyte_value.uri).read_text().splitlines()]
        return Rows([{key: value for key, value in row.items() if not wanted or key in wanted} for row in rows])


class WriteJson(DataFrameEncoder):
    def __init__(self) -> None:
        super().__init__(pd.DataFrame, None, "json")

    async def encode(self, dataframe: Any, structured_dataset_type: Any) -> str:
        dataframe.val.to_json(dataframe.uri)
        return dataframe.uri


class ReadJson(DataFrameDecoder):
    def __init__(self) -> None:
        super().__init__(pd.DataFrame, None, "json")

    async def decode(self, flyte_value: Any, current_task_metadata: Any) -> Any:
        return pd.read_json(flyte_value.uri)


GLOBAL = Rows([{"g": 1}])


@env.task
async def longer(table: Rows) -> Rows:
    return Rows([*table.rows, {"a": 3, "b": 4}])


@env.task
def doubled(table: DataFrame) -> DataFrame:
    return DataFrame.wrap_df(Rows(table.open(Rows).all_sync().rows * 2))


@env.task
def of_a(table: Annotated[DataFrame, {"a": int}]) -> list:
    return table.open(Rows).all_sync().rows


@env.task
def of_global() -> list:
    return GLOBAL.rows


@env.task
def of_file(path: str) -> list:
    return DataFrame.from_existing_remote(path, format="jsonl").open(Rows).all_sync().rows


@env.task
def frame_by_own_handler(table: DataFrame) -> list:
    found = DataFrame(table.uri, "json").open(pd.DataFrame).all_sync()
    return [table.format, found.x.tolist()]


@env.task
async def tables_of_its_own(path: str) -> list:
    first = await longer(Rows([{"a": 1, "b": 2}]))
    table = await doubled.aio(DataFrame.wrap_df(first))
    return [
        first.rows, table.format, (await table.open(Rows).all()).rows, await of_a.aio(table), await of_global.aio(),
        await of_file.aio(path),
    ]  # fmt: skip


def test_a_program_has_tables_of_its_own(run, tmp_path):
    """Its handlers write and read them: as values, by reference, in globals, from files; columns are told to the decoder."""
    file = tmp_path / "rows.jsonl"
    file.write_text('{"k": 5}\n')
    DataFrameTransformerEngine.register(WriteRows(), default_format_for_type=True)
    DataFrameTransformerEngine.register(ReadRows())

    first, kind, rows, of_column, of_globals, of_files = run(tables_of_its_own, str(file))

    both = [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert (first, kind, rows, of_column) == (both, "jsonl", both * 2, [{"a": 1}, {"a": 3}] * 2)
    assert (of_globals, of_files) == ([{"g": 1}], [{"k": 5}])
    assert [{"a": 3, "b": 4}] == run(longer, Rows([])).rows


@env.task
async def registered_there(deeper: int) -> str:
    """What a worker takes for its own registrations, below some calls of other tasks."""
    from flyte_nb.core.transport.companions import COMPANIONS

    return await registered_there(deeper - 1) if deeper else repr(COMPANIONS)


@pytest.mark.parametrize("mode", [pytest.param("remote", marks=pytest.mark.cluster)])
def test_what_came_with_code_is_not_registered_anew(run, cluster, mode):
    """Else each version of code that a worker loads would bring those of all before it."""
    DataFrameTransformerEngine.register(WriteRows(), default_format_for_type=True)
    assert "<Companions []>" == run(registered_there, 3)


def test_known_frames_can_be_written_in_another_way(run):
    DataFrameTransformerEngine.register(WriteJson(), override=True, default_format_for_type=True)
    DataFrameTransformerEngine.register(ReadJson())
    try:
        assert ["json", [1, 2]] == run(frame_by_own_handler, DataFrame.from_df(WHOLE))
    finally:
        del DataFrameTransformerEngine.DEFAULT_FORMATS[pd.DataFrame]


def test_handlers_are_checked_as_they_are_registered():
    register = DataFrameTransformerEngine.register

    class Other(WriteRows):
        def __init__(self) -> None:
            DataFrameEncoder.__init__(self, Rows, "mem://", "jsonl")

    class Another(Other): ...

    register(Other())
    with pytest.raises(ValueError, match="already"):
        register(Another())
    register(Another(), override=True)
    with pytest.raises(TypeError, match="not 3"):
        register(3)
    with pytest.raises(ValueError, match="all protocols"):
        register(WriteRows(), default_for_type=True)
    with pytest.raises(ValueError, match="No handler of int"):
        DataFrameTransformerEngine.get_decoder(int, "file", "x")
    assert isinstance(DataFrameTransformerEngine.get_encoder(Rows, "mem", "jsonl"), Another)
    assert isinstance(DataFrameTransformerEngine.get_encoder(Rows, "file", ""), WriteRows)


def sent_handler() -> bytes:
    """A type of its own and its registration, as they travel: nothing of them is known here."""

    class Own: ...

    class WriteOwn(WriteRows):
        def __init__(self) -> None:
            DataFrameEncoder.__init__(self, Own, "file", "own")

    sent = pickler.dumps((Own, functools.partial(extend._register_there, WriteOwn(), (False,) * 4)), fresh=True)
    tracked = cloudpickle.cloudpickle
    del tracked._DYNAMIC_CLASS_TRACKER_BY_ID[tracked._DYNAMIC_CLASS_TRACKER_BY_CLASS.pop(Own)]
    return sent


def test_handlers_that_came_with_code_are_bounded(monkeypatch):
    """Each copy of a task's code has a type of its own; those that are used stay."""
    monkeypatch.setattr(extend, "MAX_CAME", 3)
    came, sent, engine = [], sent_handler(), DataFrameTransformerEngine
    for _ in range(6):
        kind, set_up = loads_code(sent)
        COMPANIONS.arrived(Classes(), (set_up,))
        came.append(kind)
        assert isinstance(engine.get_encoder(came[0], "file", "own"), DataFrameEncoder)

    assert [came[0], *came[-2:]] == [kind for kind in came if kind in engine.ENCODERS]
