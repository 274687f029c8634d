"""Type checkers accept the usual Flyte code, and refuse what is wrong; what is public has types that both see alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mypy import api

#: Packages behind the public modules: what of them is public is there under a public name.
BEHIND = ("core", "engine", "worker", "kernel", "views")
#: What pyright says of a symbol's own type, not of a type that it mentions.
OWN = re.compile(
    r"Type is missing type annotation|Ambiguous base class|Type of parameter .* is missing|Return type is unknown"
)


def test_usual_flyte_code_has_its_types(root: Path, monkeypatch) -> None:
    """`ParamSpec` keeps signatures through the decorator, ``.aio``, ``map``, ``override`` and ``trace``."""
    monkeypatch.chdir(root)
    found, faults, code = api.run(["--config-file", str(root / "pyproject.toml"), "tests/typing/api.py"])

    assert (faults, code) == ("", 0), found


def test_editors_see_the_same_types(root: Path) -> None:
    """Pylance, which VS Code and many Lab users have, is pyright: strict, each ignored error must be one there too."""
    done = pyright(root)

    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_public_has_a_type_and_a_docstring(root: Path) -> None:
    """Nothing that a user can name is left to inference, which checkers do differently."""
    report = json.loads(pyright(root, "--verifytypes", "flyte_nb", "--ignoreexternal", "--outputjson").stdout)
    symbols: list[dict[str, Any]] = report["typeCompleteness"]["symbols"]

    public = [symbol for symbol in symbols if is_public(symbol["name"])]
    faults = [
        f"{symbol['name']}: {fault['message']}"
        for symbol in public
        for fault in symbol["diagnostics"]
        if OWN.match(fault["message"])
    ]
    assert len(public) > 500
    assert not faults, "\n".join(faults)


def is_public(name: str) -> bool:
    """Whether a symbol is one of a public module, or of a class that one has from behind it."""
    import flyte_nb

    module = name.split(".")[1]
    if module not in BEHIND:
        return not any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    owners = {
        f"{each.__module__}.{each.__qualname__}"
        for n in flyte_nb.__all__
        if isinstance(each := getattr(flyte_nb, n), type)
    }
    return any(name.startswith(f"{owner}.") and "._" not in name.removeprefix(owner) for owner in owners)


def pyright(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as `make types` does."""
    return subprocess.run(
        [sys.executable, "-m", "pyright", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},  # else it does not see this checkout as an installed package
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
