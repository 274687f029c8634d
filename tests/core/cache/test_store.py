"""The store of results: on disk, bounded, shared between processes; damage costs results and is never an error."""

from __future__ import annotations

import queue
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flyte_nb.core.cache.sqlite_file import FILE_NAME
from flyte_nb.core.cache.store import CacheStore
from flyte_nb.core.settings.notices import _logged
from flyte_nb.core.transport.blobs import content_of
from flyte_nb.core.transport.payload import Packed, dumps, loads


@pytest.fixture(autouse=True)
def notices():
    """Each test hears the notices that it causes."""
    _logged.clear()


@pytest.fixture
def opened(tmp_path):
    """Open stores on the test's folder; they are closed at its end."""
    stores = []

    def opened(**options) -> CacheStore:
        store = CacheStore(tmp_path / "cache", **options)
        stores.append(store)
        return store

    yield opened
    for store in stores:
        store.close()


def get(store: CacheStore, key: bytes, max_age: float | None = None):
    """The result of a key, unpickled; None if there is none."""
    answer: queue.Queue = queue.Queue()
    store.get(key, max_age, answer.put)
    found = answer.get(timeout=20)
    return None if found is None else loads(found)


def test_a_result_survives_the_process(opened):
    """Small and large ones, and those with buffers beside their pickle."""
    buffer = bytes(range(256)) * 2_000
    values = {b"small": 5, b"text": "x" * 200_000, b"none": [None]}
    store = opened()
    for key, value in values.items():
        store.put(key, "t.f", dumps(value))
    packed = Packed(b"\x80\x05\x97.", (content_of("n", buffer),), 4 + len(buffer))
    store.put(b"buffers", "t.f", packed)
    store.close()
    assert f"<CacheStore {store.folder} [closed]>" == repr(store)

    again = opened()
    assert values == {key: get(again, key) for key in values}
    assert buffer == bytes(get(again, b"buffers"))
    assert get(again, b"unknown") is None


def test_what_is_not_written_yet_is_found(opened):
    """The answer never waits for the disk."""
    store = opened()
    store.put(b"k", "t.f", dumps(1))

    assert 1 == get(store, b"k")


def test_age(opened):
    """A result that is too old is none, pending or not."""
    store = opened()
    store.put(b"k", "t.f", dumps(1))
    found = [get(store, b"k", age) for age in (0.0, 60.0)]
    store.flush()

    assert [None, 1] == found == [get(store, b"k", age) for age in (0.0, 60.0)]


def test_overview_and_clear(opened):
    """By full name or function name; hits are counted."""
    store = opened()
    for i in range(3):
        store.put(b"a%d" % i, "env.first", dumps(i))
    store.put(b"b", "env.second_f", dumps("x" * 100))
    store.flush()
    assert 1 == get(store, b"a1") == get(store, b"a1")

    rows = {row.task: row for row in store.overview()}
    assert [3, 2] == [rows["env.first"].entries, rows["env.first"].hits]
    assert [0, 3, 0] == [store.clear("irst"), store.clear("first"), store.clear("secondXf")]
    assert get(store, b"a1") is None
    assert 1 == store.clear()
    assert [] == store.overview()


def test_a_newer_result_replaces_an_older_one(opened):
    """As with overwrite_cache."""
    store = opened()
    store.put(b"k", "t.f", dumps("x" * 100_000))
    store.put(b"k", "t.f", dumps(2))
    store.flush()

    assert 2 == get(store, b"k")
    assert 1 == store.overview()[0].entries


def test_what_was_used_longest_ago_goes_first(opened):
    """The bound holds, and what is in use stays."""
    store = opened(max_bytes=100_000)
    for i in range(9):
        store.put(b"%d" % i, "t.f", dumps("x" * 10_000))
    store.flush()
    assert get(store, b"0") is not None
    store.flush()
    for i in range(9, 100):
        store.put(b"%d" % i, "t.f", dumps("x" * 10_000))
        store.flush()
        assert get(store, b"0") is not None
    store.close()

    again = opened(max_bytes=100_000)
    assert sum(row.nbytes for row in again.overview()) <= 100_000
    assert get(again, b"0") is not None
    assert get(again, b"1") is None


def test_a_result_larger_than_the_bound_allows_is_not_kept(opened):
    """It would push out everything else."""
    store = opened(max_bytes=100_000)
    store.put(b"k", "t.f", dumps("x" * 50_000))

    assert get(store, b"k") is None


def test_a_damaged_file_is_put_aside(opened, tmp_path, caplog):
    """The cache starts anew; the old file stays, and a notice says so."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / FILE_NAME).write_bytes(b"this is no database" * 1_000)
    store = opened()
    assert get(store, b"k") is None
    store.put(b"k", "t.f", dumps(1))
    store.close()

    assert 1 == get(opened(), b"k")
    assert 1 == len(list((tmp_path / "cache").glob("*.damaged-*")))
    assert "was damaged" in caplog.text


def test_damage_inside_is_no_error(opened, tmp_path):
    """Pages overwritten in the middle: results are lost, calls are not."""
    store = opened()
    for i in range(500):
        store.put(b"%d" % i, "t.f", dumps("x" * 3_000))
    store.close()
    path = tmp_path / "cache" / FILE_NAME
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * (path.stat().st_size - 4096 * 6))

    again = opened()
    for i in range(0, 500, 50):
        assert get(again, b"%d" % i) in (None, "x" * 3_000)
    for i in range(100):
        again.put(b"new%d" % i, "t.f", dumps("y" * 3_000))
    again.close()
    assert not again.off
    third = opened()
    assert all(get(third, b"new%d" % i) == "y" * 3_000 for i in range(100))


def test_flipped_bits_are_noticed(opened, tmp_path):
    """A checksum tells; the entry counts as not there."""
    store = opened()
    store.put(b"k", "t.f", dumps("y" * 1_000))
    store.close()
    with sqlite3.connect(tmp_path / "cache" / FILE_NAME) as db:
        db.execute("UPDATE entries SET data = CAST(replace(data, 'yyyy', 'yyyz') AS BLOB)")
    db.close()

    again = opened()
    assert get(again, b"k") is None
    again.flush()
    assert [] == again.overview()


def test_a_foreign_database_is_left_alone(opened, tmp_path, caplog):
    """The cache is off, with a notice; the file is as it was."""
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / FILE_NAME
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    store = opened()
    store.put(b"k", "t.f", dumps(1))
    store.flush()

    assert "another program" in store.off
    assert get(opened(), b"k") is None
    assert before == path.read_bytes()
    assert "Results are not cached" in caplog.text


def test_a_folder_that_cannot_be_made(tmp_path, caplog):
    """The cache is off, with a notice that names the remedy."""
    (tmp_path / "cache").write_text("a file")
    store = CacheStore(tmp_path / "cache" / "deeper")
    assert get(store, b"k") is None
    store.put(b"k", "t.f", dumps(1))
    store.flush()
    store.close()

    assert store.off
    assert "FLYTE_NB_CACHE_DIR" in caplog.text


WRITER = """
import os, sys
from pathlib import Path
from flyte_nb.core.cache.store import CacheStore
from flyte_nb.core.transport.payload import dumps
store = CacheStore(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    store.put(f"{sys.argv[2]}{i}".encode(), "t.f", dumps("x" * 20_000))
    if i % 50 == 0:
        store.flush()
if sys.argv[4] == "killed":
    print("killed", flush=True)
    os._exit(1)
store.close()
"""


def writer(folder: Path, name: str, count: int, end: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), name, str(count), end])


def test_processes_share_a_store(opened, tmp_path):
    """Two write at the same time while a third reads."""
    store = opened()
    store.put(b"own", "t.f", dumps(1))
    writers = [writer(tmp_path / "cache", name, 300, "closed") for name in "ab"]
    while any(each.poll() is None for each in writers):
        assert 1 == get(store, b"own")
    assert [0, 0] == [each.wait() for each in writers]

    assert all(get(store, f"{name}{i}".encode()) == "x" * 20_000 for name in "ab" for i in range(300))


def test_a_process_killed_while_it_writes_leaves_a_good_store(opened, tmp_path):
    """What was being written may be lost; everything before it is there, and the store goes on."""
    assert 1 == writer(tmp_path / "cache", "k", 190, "killed").wait(60)

    store = opened()
    assert all(get(store, b"k%d" % i) == "x" * 20_000 for i in range(150))
    store.put(b"new", "t.f", dumps(1))
    store.flush()
    assert 1 == get(store, b"new")
