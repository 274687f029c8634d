"""Large buffers outside of messages: named by content, private to each reader, gone with their last reference."""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flyte_nb.core.transport import blob_files, blobs, bursts, process_folder
from flyte_nb.core.transport import payload as serial
from flyte_nb.core.transport.blobs import Blobs, Borrowed, Received

BIG = blob_files.MAP_BYTES + 4096


def buffer(fill: bytes, nbytes: int = BIG) -> bytearray:
    return bytearray(fill * nbytes)


def test_equal_content_is_one_blob_and_changed_content_another() -> None:
    """A buffer passed again is recognised; written to meanwhile, it is a new blob."""
    store = Blobs()
    data = buffer(b"a")
    first = store.put(memoryview(data))
    assert store.put(memoryview(data)) is first
    assert store.put(memoryview(bytes(data))) is first
    data[BIG // 2] = 0
    second = store.put(memoryview(data))
    assert second.name != first.name
    assert second.get()[BIG // 2] == 0
    assert first.get()[BIG // 2] == ord("a")


@pytest.mark.parametrize("nbytes", [300_000, BIG])
def test_every_reader_gets_a_copy_of_its_own(nbytes: int) -> None:
    """What one reader writes neither another one nor the file sees, be it mapped or read."""
    reference = pickle.loads(pickle.dumps(Blobs().put(memoryview(b"x" * nbytes))))
    assert type(reference) is Borrowed  # its file went with the only owner of it, which is checked below
    store = Blobs()
    blob = store.put(memoryview(b"x" * nbytes))
    one, other = pickle.loads(pickle.dumps(blob)).get(), blob.get()
    one[0] = 0
    assert other[0] == ord("x")
    assert blob.get()[0] == ord("x")
    with pytest.raises(blob_files.BlobGoneError):
        reference.get()


def test_the_file_goes_with_the_last_reference() -> None:
    """Nothing is left of a blob that no call holds, once its store was trimmed."""
    store = Blobs()
    blob = store.put(memoryview(b"y" * BIG))
    path = Path(blob.path)
    store.trim()
    assert path.exists()
    del blob
    gc.collect()
    assert not path.exists()


def test_pages_of_a_large_file_are_freed_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name goes at once; where no thread can be had, its pages do, too."""
    monkeypatch.setattr(blob_files, "SLOW_BYTES", BIG)
    asked: list[tuple[Any, tuple[Any, ...]]] = []
    monkeypatch.setattr(_thread, "start_new_thread", lambda *args: asked.append(args))
    path = blob_files.write(memoryview(buffer(b"a")))
    blob_files.unlink(path)
    assert not Path(path).exists()
    (function, args), file = asked[0], asked[0][1][-1]
    assert os.fstat(file).st_size == BIG
    function(*args)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)

    def none_left(*_args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", none_left)
    path = blob_files.write(memoryview(buffer(b"a")))
    kept = os.open(path, os.O_RDONLY)
    blob_files.unlink(path)
    assert not Path(path).exists()
    blob_files.close(kept, BIG)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)


def test_the_store_remembers_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its bound the store forgets the oldest, whose files go."""
    monkeypatch.setattr(blobs, "MAX_REMEMBERED", 3)
    store = Blobs()
    arrays = [bytes([i]) * 300_000 for i in range(10)]  # alive together: no address is used twice
    paths = [Path(store.put(memoryview(array)).path) for array in arrays]
    gc.collect()
    assert [path.exists() for path in paths] == [False] * 7 + [True] * 3
    assert repr(store) == "<Blobs of local [3 offered, 3 remembered]>"


@pytest.mark.parametrize("nbytes", [300_000, BIG])
def test_a_result_belongs_to_whoever_received_it(nbytes: int) -> None:
    """The file of a result is unlinked on arrival; its content can be read as often as wanted, each time afresh."""
    gift = Blobs().results.put(memoryview(b"z" * nbytes))
    path = Path(gift.path)
    received = pickle.loads(pickle.dumps(gift))
    assert type(received) is Received
    assert not path.exists()
    first = received.get()
    first[0] = 0
    assert received.get()[0] == ord("z")


def test_a_result_that_nobody_received_leaves_nothing() -> None:
    """A result's file goes with it where it never left."""
    gift = Blobs().results.put(memoryview(b"z" * BIG))
    path = Path(gift.path)
    del gift
    gc.collect()
    assert not path.exists()


def test_a_carried_payload_needs_no_file() -> None:
    """What is stored (in a cache, say) can be read when every process that made it has ended."""
    store = Blobs()
    value = {"a": np.arange(100_000.0), "b": "text"}
    payload = serial.dumps(value, store.results)
    assert isinstance(payload, serial.Packed)
    stored = pickle.dumps(serial.carried(payload))
    del payload
    gc.collect()
    back: Any = serial.loads(pickle.loads(stored))
    assert (back["a"] == value["a"]).all()
    back["a"][0] = 7  # writable, as any value


def test_folders_of_killed_processes_are_swept(tmp_path: Path) -> None:
    """A process that was killed cannot clean up; the next one does."""
    child = """if True:
        from flyte_nb.core.transport import blobs
        import os, signal
        b = blobs.Blobs().put(memoryview(b'q' * 300000))
        print(b.path, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    path = Path(done.stdout.strip())
    assert path.exists()
    process_folder.sweep()
    assert not path.parent.exists()


def test_a_process_that_ends_removes_its_folder() -> None:
    """Nothing is left of a process that ended by itself."""
    child = "from flyte_nb.core.transport import blobs; b = blobs.Blobs().put(memoryview(b'q' * 300000)); print(b.path)"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).parent.exists()


def test_only_own_files_are_handed_out(tmp_path: Path) -> None:
    """A peer cannot ask for any other file of this machine."""
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert blob_files.piece(str(secret), 0, 1) is None
    blob = Blobs().put(memoryview(b"w" * 300_000))
    assert blob_files.piece(f"{Path(blob.path).parent}/../{tmp_path.name}/secret", 0, 1) is None
    assert bytes(blob_files.piece(blob.path, 5_000, 295_000)) == b"w" * 295_000
    assert blob_files.piece(blob.path, 5_000, 295_001) is None


async def _call(store: Blobs, array: Any) -> str:
    """As a call of a task takes its argument."""
    return store.put(memoryview(array)).name


async def test_an_array_is_compared_once_for_all_calls_of_a_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again as soon as anything of the user's may have run: between two calls, or after them."""
    monkeypatch.setattr(bursts, "CALLS", {_call.__code__})
    compared: list[Any] = []
    equal = blobs._equal

    def counted(*args: Any) -> bool:
        compared.append(args[0])
        return equal(*args)

    monkeypatch.setattr(blobs, "_equal", counted)
    store, array = Blobs(), np.zeros(100_000)

    async def write(value: float) -> None:
        array[0] = value

    async def write_and_call(value: float) -> str:
        array[0] = value
        return await _call(store, array)

    same = await asyncio.gather(*(_call(store, array) for _ in range(10)))
    assert (1, 0) == (len(set(same)), len(compared))  # the first one wrote it

    first, _, second, third = await asyncio.gather(
        _call(store, array), write(1.0), _call(store, array), _call(store, array)
    )
    assert first == same[0] != second == third
    assert 2 == len(compared)

    names = await asyncio.gather(_call(store, array), *map(write_and_call, (2.0, 3.0, 4.0)), _call(store, array))
    assert [second, names[3]] == [names[0], names[4]]
    assert 4 == len(set(names))
    array[0] = 5.0
    assert await _call(store, array) not in names


async def test_another_array_at_the_same_address_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that come and go lie where their forerunners lay."""

    async def copied(store: Blobs, value: float) -> str:
        return store.put(memoryview(np.full(100_000, value).data)).name

    monkeypatch.setattr(bursts, "CALLS", {copied.__code__})
    store = Blobs()

    assert 20 == len(set(await asyncio.gather(*(copied(store, float(i)) for i in range(20)))))
