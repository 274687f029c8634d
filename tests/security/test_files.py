"""A local account: what it can read and write of another user's kernel. See SECURITY.md."""

from __future__ import annotations

import os
import pickle
import queue
from pathlib import Path

import pytest

from flyte_nb.core.cache.sqlite_file import FILE_NAME
from flyte_nb.core.cache.store import CacheStore
from flyte_nb.core.settings.notices import _logged
from flyte_nb.core.transport import blob_files, process_folder
from flyte_nb.core.transport.payload import dumps, loads
from flyte_nb.core.transport.trust import UntrustedError
from flyte_nb.io import DataFrame

#: A user who is not this one.
STRANGER = 65534


@pytest.fixture(autouse=True)
def notices():
    """Each test hears the notices that it causes."""
    _logged.clear()


def kept(folder: Path, key: bytes = b"k") -> object:
    """What a new store of the folder has of a key, after it was asked to keep 1."""
    store = CacheStore(folder)
    answer: queue.Queue = queue.Queue()
    store.put(key, "t.f", dumps(1))
    store.flush()
    store.close()
    again = CacheStore(folder)
    again.get(key, None, answer.put)
    found = answer.get(timeout=20)
    again.close()
    return None if found is None else loads(found)


def test_the_cache_is_for_its_user_alone(tmp_path: Path) -> None:
    """Folder 0700, file and what SQLite puts beside it 0600; a file of an earlier version is mended."""
    folder = tmp_path / "cache"
    assert 1 == kept(folder)

    assert 0o700 == folder.stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    (folder / FILE_NAME).chmod(0o644)
    assert 1 == kept(folder)
    assert 0o600 == (folder / FILE_NAME).stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("which", "mode", "owner", "words"),
    [
        ("cache", 0o777, None, "others can write to the folder"),
        ("cache", 0o770, None, "others can write to the folder"),
        (f"cache/{FILE_NAME}", 0o666, None, "others can write to the file"),
        ("cache", 0o755, STRANGER, "belongs to another user"),
        (f"cache/{FILE_NAME}", 0o600, STRANGER, "belongs to another user"),
    ],
)
def test_a_cache_that_others_can_write_is_not_used(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    which: str,
    mode: int,
    owner: int | None,
    words: str,
) -> None:
    """Nothing in it is unpickled, nothing is written; it is said once, with the remedy."""
    folder = tmp_path / "cache"
    assert 1 == kept(folder)
    (tmp_path / which).chmod(mode)
    if owner is not None and os.getuid() == 0:
        os.chown(tmp_path / which, owner, owner)
    elif owner is not None:  # only root can give files away: it is us who are somebody else
        monkeypatch.setattr(os, "getuid", lambda: owner)

    assert kept(folder) is None
    assert kept(folder) is None
    said = [record.getMessage() for record in caplog.records if "not cached" in record.getMessage()]
    assert 1 == len(said)
    assert words in said[0]
    assert "FLYTE_NB_TRUST_SHARED=1" in said[0]


def test_a_shared_cache_is_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says that everybody who can write there is trusted; rights are left as they are."""
    monkeypatch.setenv("FLYTE_NB_TRUST_SHARED", "1")
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)

    assert 1 == kept(folder)
    assert 0o777 == folder.stat().st_mode & 0o777


def test_a_pickled_frame_of_others_is_refused(tmp_path: Path) -> None:
    """It would run what they wrote."""
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps([1]))
    path.chmod(0o666)

    with pytest.raises(UntrustedError, match="others can write to the file"):
        DataFrame(uri=str(path), format="pickle").open(list).all_sync()
    path.chmod(0o600)
    assert [1] == DataFrame(uri=str(path), format="pickle").open(list).all_sync()


def test_large_values_lie_in_private_folders() -> None:
    """In shared memory, too: 0700 folders, 0600 files, names that cannot be guessed."""
    path = Path(blob_files.write(memoryview(b"x" * 1_000)))
    session = Path(process_folder.session_folder())

    assert 0o600 == path.stat().st_mode & 0o777
    assert 0o700 == path.parent.stat().st_mode & 0o777 == session.stat().st_mode & 0o777
    assert len(path.name) >= 24
    blob_files.unlink(str(path))


def test_a_link_with_the_name_of_our_folders_is_not_followed(tmp_path: Path) -> None:
    """What a killed process left is swept; a stranger's link into the user's home is not."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").write_text("x")
    link = tmp_path / f"{process_folder.prefix()}999999999-x"
    link.symlink_to(home)

    process_folder.sweep(tmp_path)

    assert (home / "thesis").exists()
