"""What an attempt saves for the next one."""

from __future__ import annotations

import base64
import os
import tarfile
from pathlib import Path

import pytest

import flyte_nb as flyte

env = flyte.TaskEnvironment("checkpoint")


@env.task(retries=2)
async def count_up() -> list[int]:
    checkpoint = flyte.ctx().checkpoint
    before = await checkpoint.load()
    seen = [int(part) for part in before.read_bytes().split()] if before else []
    seen.append(flyte.ctx().attempt_number)
    await checkpoint.save(b" ".join(b"%d" % number for number in seen))
    if len(seen) < 3:
        raise ValueError("not yet")
    return seen


def test_bytes_saved_by_one_attempt_are_loaded_by_the_next(run):
    """Each attempt finds what the one before saved, as a file."""
    assert [0, 1, 2] == run(count_up)


@env.task(retries=1)
def folder_of_files() -> list[str]:
    checkpoint = flyte.ctx().checkpoint
    before = checkpoint.load_sync()
    if before is None:
        assert not checkpoint.prev_exists()
        work = checkpoint.path / "state"
        (work / "epoch-1").mkdir(parents=True)
        (work / "epoch-1" / "last.ckpt").write_text("weights")
        checkpoint.save_sync(work)
        raise ValueError("not yet")
    assert checkpoint.prev_exists()
    newest = flyte.latest_checkpoint(before)
    assert newest is not None
    return [newest.read_text(), str(newest.relative_to(checkpoint.path))]


def test_a_folder_comes_back_as_a_folder(run):
    """save_sync of a folder, load_sync of its tree, and latest_checkpoint in it."""
    assert ["weights", "epoch-1/last.ckpt"] == run(folder_of_files)


@env.task(retries=1)
async def overwritten(path: str) -> str:
    checkpoint = flyte.ctx().checkpoint
    if flyte.ctx().attempt_number == 0:
        await checkpoint.save(b"old")
        Path(path).write_text("new")
        await checkpoint.save(path)
        raise ValueError("not yet")
    return (await checkpoint.load()).read_text()


def test_a_later_save_replaces_an_earlier_one(run, tmp_path):
    """One blob: the path saved last is what the next attempt gets."""
    assert "new" == run(overwritten, str(tmp_path / "file"))


@env.task(retries=2)
async def saved_once() -> str:
    checkpoint = flyte.ctx().checkpoint
    if flyte.ctx().attempt_number == 0:
        await checkpoint.save(b"first")
    if flyte.ctx().attempt_number < 2:
        raise ValueError("not yet")
    return (await checkpoint.load()).read_text()


def test_an_attempt_that_saves_nothing_passes_on_what_it_got(run):
    """The checkpoint of attempt 0 reaches attempt 2."""
    assert "first" == run(saved_once)


@env.task
async def nothing_before() -> tuple[bool, str | None, bool]:
    checkpoint = flyte.ctx().checkpoint
    before = await checkpoint.load()
    return checkpoint.prev_exists(), before, isinstance(checkpoint, flyte.BaseCheckpoint)


def test_a_first_attempt_finds_none(mode):
    """load gives None, prev_exists is False; runs of the same task share nothing."""
    for _ in range(2):
        assert (False, None, True) == tuple(flyte.with_runcontext(mode=mode).run(nothing_before).outputs())


@env.task(retries=1)
async def dies() -> str:
    checkpoint = flyte.ctx().checkpoint
    before = await checkpoint.load()
    if before is None:
        await checkpoint.save(b"survived")
        os._exit(1)
    return before.read_text()


@pytest.mark.cluster
def test_a_checkpoint_survives_the_worker_that_saved_it(cluster):
    """The worker dies after the save; the attempt that follows elsewhere loads it."""
    assert "survived" == flyte.with_runcontext(mode="remote").run(dies).outputs()[0]


def test_outside_a_task_there_is_no_checkpoint():
    """ctx() is falsy there, and its checkpoint None."""
    assert flyte.ctx().checkpoint is None
    assert flyte.ctx().checkpoint_paths is None


def _folder(path: Path) -> Path:
    (path / "in").mkdir(parents=True)
    (path / "a.txt").write_text("A")
    (path / "in" / "b.txt").write_text("B")
    return path


def _names(path: Path | None) -> list[str]:
    assert path is not None
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


@pytest.mark.parametrize("prefix", ["", "file://", "memory://"])
def test_a_folder_that_was_saved_to_an_address_is_loaded_from_it(tmp_path, prefix):
    """By hand, as for unit tests of a task."""
    place = f"{prefix}{tmp_path}/first"
    flyte.Checkpoint(place, None).save_sync(_folder(tmp_path / "source"))
    assert _names(flyte.Checkpoint(f"{tmp_path}/second", place).load_sync()) == ["a.txt", "in/b.txt"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_of_flytes_own_is_unpacked(tmp_path, mode):
    """The SDK saves a folder as one compressed file."""
    source = _folder(tmp_path / "source")
    with tarfile.open(tmp_path / "_flytecheckpoints", mode) as archive:
        for child in source.iterdir():
            archive.add(child, child.name)
    assert _names(flyte.Checkpoint(f"{tmp_path}/b", f"{tmp_path}/_flytecheckpoints").load_sync()) == [
        "a.txt",
        "in/b.txt",
    ]


#: What version 2.12.1 of Flyte's SDK made of `_folder`: ``Checkpoint(address, None).save_sync(folder)``.
OF_THE_SDK = (
    "H4sICPfdCWsC/2ZseXRlLWNwdGFyLWQyaDB2N28xLnRhcgDt180KgkAUBeBZ9xQ+wXjnz6uLoFq17BUmcuHCBJvAx09rEQQaLUZI"
    "z7dRxsUF4dzDyFSmu5PvjqW/lK2Igl7GnkTGvt+Hc0VaaZF0Ygb3W/BtP16sk86TOlR1uVVcuJxydoVkq7nIs42AxfMydCHyjCHU"
    "mbXj+ScllDOkjcuYn/l3bEVCc+a/bZrJ//Dt+5/aIwKrJtH/6H/0/2pV1zT6jCHU7NxE/9Nn/2vT59+h/7H/sf+x/yHm/j/HvgL+"
    "fv9Tmgzuf3M4IAIAAAAAAAAAAACL9QCb2sf+ACgAAA=="
)


def test_a_folder_is_the_same_to_flyte(tmp_path):
    """What it has saved, and what it is given: an archive at the very address (it tells by `tarfile.is_tarfile`)."""
    (tmp_path / "theirs").write_bytes(base64.b64decode(OF_THE_SDK))
    assert _names(flyte.Checkpoint(f"{tmp_path}/b", f"{tmp_path}/theirs").load_sync()) == ["a.txt", "in/b.txt"]
    flyte.Checkpoint(f"{tmp_path}/ours", None).save_sync(_folder(tmp_path / "source"))
    with tarfile.open(tmp_path / "ours") as ours, tarfile.open(tmp_path / "theirs") as theirs:
        assert ours.getnames() == theirs.getnames()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ours", "source", "theirs"]


@pytest.mark.parametrize("data", [b"", b"\0" * 20_000, b"weights", b"\x1f\x8b and no archive", b"x" * 600])
def test_bytes_come_back_as_a_file(tmp_path, data):
    """Also those that look a little like an archive."""
    flyte.Checkpoint(f"{tmp_path}/a", None).save_sync(data)
    loaded = flyte.Checkpoint(f"{tmp_path}/b", f"{tmp_path}/a").load_sync()
    assert loaded is not None
    assert loaded.read_bytes() == data


def test_what_was_never_saved_is_nothing(tmp_path):
    assert flyte.Checkpoint(f"{tmp_path}/b", f"{tmp_path}/a").load_sync() is None


def _again(first, second, tmp_path):
    """Save a path, then another to the same address."""
    checkpoint = flyte.Checkpoint(f"{tmp_path}/a", None)
    checkpoint.save_sync(first)
    checkpoint.save_sync(second)
    return flyte.Checkpoint(f"{tmp_path}/b", f"{tmp_path}/a").load_sync()


def _tree(path: Path | None) -> dict[str, str]:
    assert path is not None
    return {str(each.relative_to(path)): each.read_text() if each.is_file() else "" for each in path.rglob("*")}


#: Files of a folder, by name; a name that ends with a slash is a folder.
FOLDERS: dict[str, dict[str, str]] = {
    "empty": {},
    "an empty folder in it": {"in/": ""},
    "deep": {"/".join("abcdefghij") + "/k.txt": "K"},
    "hidden": {".hidden": "h", ".in/.too": "t"},
    "no ASCII": {"ä é 漢字.txt": "ö"},
    "blanks": {"a file.txt": "a", "a folder/b c.txt": "b"},
    "an archive": {"inner.tar": "no archive", "inner.tar.gz": "none"},
    "named as ours": {"payload": "p", ".archive.txt": "a"},
    "empty files": {"a": "", "b/c": ""},
    "many": {f"{i % 7}/{i}.txt": str(i) for i in range(200)},
    "as an option": {"-rf": "x", "--": "y"},
    "large": {"weights.bin": "w" * 3_000_000},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_any_folder_comes_back(tmp_path, name):
    """Whatever was saved before it, twice, and saved again by who has loaded it."""
    source = tmp_path / "source"
    source.mkdir()
    for file, text in FOLDERS[name].items():
        place = source / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.endswith("/"):
            place.mkdir()
        else:
            place.write_text(text)
    loaded = _again(b"bytes before", source, tmp_path)
    assert loaded is not None
    assert _tree(source) == _tree(loaded)
    flyte.Checkpoint(f"{tmp_path}/c", None).save_sync(str(loaded))
    again = flyte.Checkpoint(f"{tmp_path}/d", f"{tmp_path}/c")
    assert again.load_sync() == again.load_sync()
    assert _tree(source) == _tree(again.load_sync())
    file = _again(source, memoryview(b"bytes after"), tmp_path)
    assert file is not None
    assert b"bytes after" == file.read_bytes()
