"""The folder for a session's data: private, and gone with its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flyte_nb.core.transport.process_folder import sweep

MAKE = """
import os, sys
from flyte_nb.core.transport.process_folder import session_folder
folder = session_folder()
assert folder == session_folder()
open(os.path.join(folder, "data"), "w").write("x")
print(folder, oct(os.stat(folder).st_mode & 0o777), flush=True)
"""


def run(code: str) -> tuple[Path, str]:
    """Run a program that makes the folder; its path and its mode."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    folder, mode = done.stdout.split()
    return Path(folder), mode


def test_it_is_private_and_removed_at_the_end():
    """Readable by its user only; nothing is left when the process has ended."""
    folder, mode = run(MAKE)

    assert "0o700" == mode
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_by_the_next():
    """A process that could not clean up is found dead, and its folder removed."""
    killed, _ = run(MAKE + "os._exit(1)")
    assert killed.exists()

    run(MAKE)

    assert not killed.exists()


def test_folders_of_another_container_are_left_alone(tmp_path):
    """Process numbers of another machine or namespace, which shares the disk, say nothing here."""
    theirs = tmp_path / "flyte_nb-00000000-4194303-abc"
    theirs.mkdir()

    sweep(tmp_path)

    assert theirs.exists()
