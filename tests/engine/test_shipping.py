"""The package as it travels to workers that do not have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flyte_nb.engine.clusters import guest, welcome


def test_the_worker_side_works_from_the_archive_alone(tmp_path: Path) -> None:
    """Dask's entry points are imported from it, and nothing of Jupyter's."""
    archive = tmp_path / f"{guest.ARCHIVE}{welcome.build()}.zip"
    archive.write_bytes(welcome.archive())
    code = (
        "import sys, flyte_nb, flyte_nb.worker.entry, flyte_nb.worker.preload, flyte_nb.io; "
        "print(flyte_nb.__path__[0], [name for name in ('IPython', 'anywidget') if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(archive)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path, check=False
    )

    assert f"{archive}/flyte_nb []\n" == done.stdout, done.stderr
    assert guest.build_of(archive / "flyte_nb") == welcome.build()
