"""Where runs are recorded, and whether: what `init` says comes before the environment, and that before what is usual."""

from __future__ import annotations

from pathlib import Path

import pytest

from flyte_nb.core.journal import location


@pytest.mark.parametrize(
    ("said", "variable", "ci", "expected"),
    [
        (None, None, None, None),  # under pytest
        (None, "off", None, None),
        (None, "on", "true", "usual"),
        (None, "/a/folder", "true", "/a/folder"),
        (False, "/a/folder", None, None),
        (True, "off", None, "usual"),
        (True, None, "true", "usual"),
        (True, "/a/folder", None, "/a/folder"),
        ("/another", "off", "true", "/another"),
    ],
)
def test_whether_and_where(said, variable, ci, expected, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The usual folder is that of the user's states."""
    monkeypatch.setattr(location.Configured, "history", None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name, value in (("FLYTE_NB_HISTORY", variable), ("CI", ci)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    location.configure(said)

    usual = {"usual": tmp_path / "flyte_nb", None: None}

    assert usual.get(expected, Path(expected or "")) == location.folder()


def test_bounds_and_notebooks_are_told_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Bytes and days; a notebook by its path, without one by the folder."""
    monkeypatch.setenv("FLYTE_NB_HISTORY_BYTES", "1000")
    monkeypatch.setenv("FLYTE_NB_HISTORY_DAYS", "2.5")
    assert (1000, 2.5) == location.bounds()
    monkeypatch.setenv("JPY_SESSION_NAME", "/a/b.ipynb")
    assert "/a/b.ipynb" == location.notebook_of({})
    assert "/c.ipynb" == location.notebook_of({"__vsc_ipynb_file__": "/c.ipynb"})
