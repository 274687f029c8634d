"""The "Python 3 (Flyte)" kernel: ipykernel with the extension loaded at start. Runs in: the command line."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

NAME = "flyte_nb"
DISPLAY_NAME = "Python 3 (Flyte)"

__all__ = ["DISPLAY_NAME", "NAME", "install", "spec_folder"]


def spec_folder() -> Path:
    """Folder that holds kernel.json and the logos: beside this package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent
    return next(folder for folder in (here / "kernelspec", here.parent / "kernelspec") if folder.is_dir())


def install(
    *, user: bool = True, prefix: str | None = None, name: str = NAME, display_name: str = DISPLAY_NAME
) -> Path:
    """Register this environment's kernel where a Jupyter server, of this or another environment, finds it.

    Args:
        user: Register for this user. Ignored when ``prefix`` is given.
        prefix: Register under ``<prefix>/share/jupyter/kernels`` instead.
        name: The kernel's technical name, as in ``papermill -k``.
        display_name: What the launcher shows.

    Returns:
        The folder that was written.
    """
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / name
        shutil.copytree(spec_folder(), spec)
        content = json.loads((spec / "kernel.json").read_text(encoding="utf-8"))
        # A server of another environment would take a bare `python` for its own.
        content["argv"][0] = sys.executable
        content["display_name"] = display_name
        (spec / "kernel.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        written = KernelSpecManager().install_kernel_spec(str(spec), name, user=user and prefix is None, prefix=prefix)
    return Path(written)
