"""Location of the journal: whether runs are recorded, where, how much and how long. Runs in: the user's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Bytes kept in all; beyond it, the oldest runs go.
MAX_HISTORY_BYTES = 2 * 1024**3
#: Days that a run is kept.
MAX_DAYS = 30.0
_OFF = frozenset({"0", "off", "no", "false"})
_ON = frozenset({"1", "on", "yes", "true", ""})


class Configured:
    """What `flyte_nb.init` was told: None for nothing."""

    history: bool | Path | None = None


def configure(history: bool | str | os.PathLike[str] | None) -> None:
    """Set whether runs are recorded, or the folder where; None changes nothing."""
    if history is not None:
        Configured.history = history if isinstance(history, bool) else Path(history).expanduser().absolute()


def folder() -> Path | None:
    """The folder of the journal; None where runs are not recorded.

    In order: what `flyte_nb.init` was told, ``FLYTE_NB_HISTORY`` ("off", "on", or a folder), else the user's folder for
    programs' states; under pytest, and where ``CI`` is set, nothing is recorded unless one of the former says so.
    """
    given = Configured.history
    if isinstance(given, Path):
        return given
    said = os.environ.get("FLYTE_NB_HISTORY", "").strip()
    if given is False or (given is None and said.lower() in _OFF):
        return None
    if said.lower() not in _ON | _OFF:
        return Path(said).expanduser().absolute()
    if (
        given is None
        and not said
        and (os.environ.get("CI") or "PYTEST_VERSION" in os.environ or "pytest" in sys.modules)
    ):
        return None
    return _user_state() / "flyte_nb"


def bounds() -> tuple[int, float]:
    """Bytes kept in all (``FLYTE_NB_HISTORY_BYTES``), and days that a run is kept (``FLYTE_NB_HISTORY_DAYS``)."""
    nbytes, days = os.environ.get("FLYTE_NB_HISTORY_BYTES", ""), os.environ.get("FLYTE_NB_HISTORY_DAYS", "")
    return (
        int(nbytes) if nbytes.isdigit() else MAX_HISTORY_BYTES,
        float(days) if days.replace(".", "", 1).isdigit() else MAX_DAYS,
    )


def notebook_of(variables: dict[str, object]) -> str:
    """What tells a notebook's runs from those of others: its path where the front end says it, else the script or folder.

    Args:
        variables: The notebook's own, into which VS Code puts the path.
    """
    path = variables.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if isinstance(path, str) and path:
        return str(Path(path).absolute())
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    in_kernel = script is None or "ipykernel" in Path(script).name or Path(script).parent.name == "ipykernel"
    return f"{Path.cwd()}{os.sep}" if in_kernel else str(Path(str(script)).absolute())


def _user_state() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
