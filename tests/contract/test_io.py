"""Files, folders and tables that tasks pass by reference."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pydantic
import pytest

import flyte_nb as flyte
from flyte_nb.core.cache import location
from flyte_nb.io import DataFrame, Dir, File, HashFunction

env = flyte.TaskEnvironment("io")


@env.task
async def write(text: str) -> File:
    file = File.new_remote("note.txt")
    async with file.open("w") as f:
        await f.write(text)
    return file


@env.task
async def read(file: File) -> str:
    async with file.open("r") as f:
        return await f.read()


@env.task
def read_sync(file: File) -> str:
    with file.open_sync("rb") as f:
        return f.read().decode()


@env.task
async def there_and_back(text: str) -> tuple[str, str, bool, str]:
    file = await write(text)
    return await read(file), await read_sync.aio(file), await file.exists(), file.name


def test_a_file_crosses_between_processes(mode):
    """The same program in both modes."""
    assert ("hello", "hello", True, "note.txt") == tuple(
        flyte.with_runcontext(mode=mode).run(there_and_back, "hello").outputs()
    )


@env.task
async def from_temporary_folder() -> File:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gone.bin"
        path.write_bytes(b"kept")
        return await File.from_local(path)


@env.task
async def count_bytes(file: File) -> int:
    return len(Path(await file.download()).read_bytes())


@env.task
async def outlives_its_folder() -> int:
    return await count_bytes(await from_temporary_folder())


def test_a_local_file_outlives_the_folder_that_its_task_made(run):
    """from_local inside a task copies the file to the run's data, so that the task may clean up."""
    assert 4 == run(outlives_its_folder)


def test_a_file_of_the_user_is_referred_to_where_it_is(run, tmp_path):
    """Outside tasks nothing is copied; the task on the worker reads it in place."""
    path = tmp_path / "own.txt"
    path.write_text("mine")
    file = File.from_local_sync(path)

    assert (str(path), "mine") == (file.path, run(read, file))


def test_download_puts_a_copy_where_it_is_told(run, tmp_path):
    """A path, a folder that exists, and a folder named by its slash."""

    @env.task
    async def fetch(file: File, folder: str) -> list[str]:
        return [
            await file.download(f"{folder}/renamed.txt"),
            file.download_sync(folder),
            file.download_sync(f"{folder}/fresh{os.sep}"),
        ]

    source = tmp_path / "source.txt"
    source.write_text("abc")
    folder = tmp_path / "out"
    folder.mkdir()
    wanted = [folder / "renamed.txt", folder / "source.txt", folder / "fresh" / "source.txt"]

    assert [str(path) for path in wanted] == run(fetch, File.from_existing_remote(str(source)), str(folder))
    assert ["abc"] * 3 == [path.read_text() for path in wanted]


def test_a_missing_file_says_so(run):
    """Reading an address where nothing is raises FileNotFoundError, dual with Flyte's error, and names the address."""
    with pytest.raises(FileNotFoundError, match="/nowhere/x"):
        run(read, File.from_existing_remote("/nowhere/x.txt"))


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Readers see the old content until the writer is done; a write that fails leaves it, and nothing else."""
    path = tmp_path / "state.json"
    path.write_text("old")
    file: File = File.from_existing_remote(str(path))
    with file.open_sync("w") as f:
        f.write("new")
        f.flush()
        assert "old" == path.read_text()
    assert "new" == path.read_text()
    with pytest.raises(TypeError), file.open_sync("w") as f:  # noqa: PT012 - half is written, then it fails
        f.write("half")
        f.write(1)

    assert "new" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_file_of_the_wrong_type_is_refused(run):
    """A path is not a File: the call is refused before anything runs."""
    with pytest.raises(TypeError, match="expected File"):
        run(read, "/tmp/x")


@env.task
async def fill() -> Dir:
    folder = Dir.new_remote("results")
    for name in ("b.txt", "a.txt", "sub/c.csv"):
        path = Path(folder.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


@env.task
async def look(folder: Dir) -> dict[str, list[str]]:
    found = await folder.get_file("a.txt")
    assert found is not None
    missing = await folder.get_file("zzz")
    async with found.open("r") as f:
        content = await f.read()
    return {
        "walk": sorted([file.name async for file in folder.walk(recursive=True)]),
        "flat": [file.name async for file in folder.walk(recursive=False)],
        "csv": [file.name for file in folder.walk_sync(file_pattern="*.csv")],
        "list": [file.name for file in await folder.list_files()],
        "one": [content, str(missing), str(await folder.exists())],
        "down": sorted(p.name for p in Path(await folder.download(f"{folder.path}-copy")).rglob("*")),
    }


@env.task
async def folders() -> dict[str, list[str]]:
    return await look(await fill())


def test_a_folder_is_walked_listed_and_downloaded(run):
    """walk, its sync form with a pattern, list_files, get_file, exists and download."""
    assert run(folders) == {
        "walk": ["a.txt", "b.txt", "c.csv"],
        "flat": ["a.txt", "b.txt"],
        "csv": ["c.csv"],
        "list": ["a.txt", "b.txt"],
        "one": ["a.txt", "None", "True"],
        "down": ["a.txt", "b.txt", "c.csv", "sub"],
    }


def test_a_local_folder_becomes_a_dir(run, tmp_path):
    """Dir.from_local outside tasks refers to the folder where it is."""
    (tmp_path / "x.txt").write_text("x")

    @env.task
    def names(folder: Dir) -> list[str]:
        return [file.name for file in folder.list_files_sync()]

    assert ["x.txt"] == run(names, Dir.from_local_sync(tmp_path))


FRAME = pd.DataFrame({"x": [1, 2, 3], "name": ["a", "b", "c"]})


@env.task
async def make_table() -> DataFrame:
    return DataFrame.from_df(FRAME)


@env.task
async def total(table: DataFrame) -> int:
    frame = await table.open(pd.DataFrame).all()
    return int(frame["x"].sum())


@env.task
async def tables() -> tuple[int, int, bool]:
    made = await make_table()
    also = await DataFrame.from_local(FRAME)
    return await total(made), await total(also), made.uri is not None


def test_a_table_passes_by_reference(mode):
    """from_df and from_local: the frame is written when it crosses, and read where it is opened."""
    assert (6, 6, True) == tuple(flyte.with_runcontext(mode=mode).run(tables).outputs())


@env.task
async def double(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(x=frame["x"] * 2)


def test_plain_frames_are_values(run):
    """A pandas DataFrame is passed and returned as it is, by copy."""
    frame = FRAME.copy()

    pd.testing.assert_frame_equal(frame.assign(x=[2, 4, 6]), run(double, frame))
    pd.testing.assert_frame_equal(FRAME, frame)


def test_tables_and_frames_stand_in_for_each_other(run):
    """A frame where a DataFrame is wanted is wrapped, a DataFrame where a frame is wanted is read, results likewise."""

    @env.task
    async def mixed() -> int:
        doubled = await double(DataFrame.from_df(FRAME))  # type: ignore[arg-type]
        return await total(doubled)  # type: ignore[arg-type]

    assert 12 == run(mixed)


def test_references_and_frames_are_exempt_from_the_inline_limit(run, tmp_path):
    """A large file and a large frame pass a task whose limit is a kilobyte."""

    @env.task(max_inline_io_bytes=1_000)
    async def small_limit(file: File, table: DataFrame) -> int:
        return len(Path(file.path).read_bytes()) + len(await table.open(pd.DataFrame).all())

    path = tmp_path / "big.bin"
    path.write_bytes(bytes(3_000_000))

    assert 3_000_000 + 3_000 == run(
        small_limit, File.from_local_sync(path), DataFrame.from_df(pd.DataFrame({"x": ["long text"] * 3_000}))
    )


def test_memory_addresses_work_within_one_process():
    """memory:// is read and written in local mode, by files, folders and tables."""

    @env.task
    async def in_memory() -> tuple[str, list[str], int]:
        file = File.new_remote("a.txt")
        async with file.open("w") as f:
            await f.write("one")
        folder = Dir.from_existing_remote(file.path.rpartition("/")[0])
        return await read(file), [f.name for f in await folder.list_files()], await total(DataFrame.from_df(FRAME))

    run = flyte.with_runcontext(mode="local", raw_data_path="memory://data").run(in_memory)

    assert ("one", ["a.txt"], 6) == tuple(run.outputs())


@pytest.mark.cluster
def test_memory_addresses_say_that_they_cross_no_process(cluster):
    """What a task wrote to memory:// is not found elsewhere, and the error says why and what to do."""

    @env.task
    async def elsewhere() -> str:
        return await read(await write("x"))

    runner = flyte.with_runcontext(mode="remote", raw_data_path="memory://data")
    file = runner.run(write, "x").outputs()[0]
    with pytest.raises(FileNotFoundError, match="memory of one process"), file.open_sync() as f:
        f.read()


def test_where_data_goes_can_be_chosen(run, mode, tmp_path):
    """raw_data_path of the run is where references are written."""
    file = flyte.with_runcontext(mode=mode, raw_data_path=str(tmp_path)).run(write, "x").outputs()[0]

    assert Path(file.path).is_relative_to(tmp_path)
    assert "x" == Path(file.path).read_text()


def test_a_hash_method_sees_what_is_written(tmp_path):
    """new_remote with a HashMethod hashes what is written; from_local hashes the file."""
    by_length = HashFunction.from_fn(lambda data: f"{len(data)} bytes")
    file = File.new_remote("h.txt", hash_method=by_length)
    with file.open_sync("wb") as f:
        f.write(b"123")
        f.write(b"45")

    assert ("5 bytes", "5 bytes") == (file.hash, File.from_local_sync(file.path, hash_method=by_length).hash)


cached = flyte.TaskEnvironment("io-cached", cache="auto")


@cached.task
async def shout(file: File, table: DataFrame) -> str:
    async with file.open("r") as f:
        return (await f.read()).upper()


def test_references_are_cached_by_their_content(mode, tmp_path):
    """Equal content at another address is a hit; other content at the same address is none."""
    location.configure(tmp_path / "cache")
    try:
        hits = []
        for name, content in (("a", "text"), ("b", "text"), ("b", "other")):
            path = tmp_path / name
            path.write_text(content)
            table = DataFrame.from_df(FRAME.copy())
            done = flyte.with_runcontext(mode=mode).run(shout, File.from_local_sync(path), table)
            assert content.upper() == done.outputs()[0]
            hits.append(done.action.cached)  # type: ignore[union-attr]
    finally:
        location.configure(None)

    assert [False, True, False] == hits


class Sheet(pydantic.BaseModel):
    file: File
    files: list[File] = []
    table: DataFrame


@dataclass
class Bundle:
    name: str
    file: File


@env.task
async def nested(sheet: Sheet, bundle: Bundle, by_name: dict[str, File], maybe: File | None = None) -> Sheet:
    assert maybe is None
    texts = [await read(file) for file in (sheet.file, *sheet.files, bundle.file, by_name["x"])]
    assert ["x"] * 4 == texts
    return sheet


def test_references_stand_in_models_dataclasses_and_containers(run, tmp_path):
    """Pydantic models keep them, also through JSON; dataclasses, dicts and optional parameters take them."""
    path = tmp_path / "x"
    path.write_text("x")
    file: File = File.from_local_sync(path)
    sheet = Sheet(file=file, files=[file], table=DataFrame.from_df(FRAME))
    got = run(nested, sheet, Bundle("b", file), {"x": file})
    again = Sheet.model_validate_json(got.model_dump_json())

    assert file == again.file == again.files[0]
    pd.testing.assert_frame_equal(FRAME, again.table.open(pd.DataFrame).all_sync())
