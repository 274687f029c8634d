"""Type checkers accept the usual Flyte code, and refuse what is wrong."""

from __future__ import annotations

from pathlib import Path

from mypy import api


def test_usual_flyte_code_has_its_types(root: Path, monkeypatch) -> None:
    """`ParamSpec` keeps signatures through the decorator, ``.aio``, ``map``, ``override`` and ``trace``."""
    monkeypatch.chdir(root)
    found, faults, code = api.run(["--config-file", str(root / "pyproject.toml"), "tests/typing/api.py"])

    assert (faults, code) == ("", 0), found
