"""The page of Flyte's names is true: nothing is missing from it, and everything is what it says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.import_alias import SUBMODULES

STATES = {"supported", "accepted", "not here", "ours"}


def rows(root: Path) -> dict[str, str]:
    """State by name, of every row of the table."""
    found: dict[str, str] = {}
    for line in (root / "docs" / "flyte-names.md").read_text().splitlines():
        if not line.startswith("| `flyte"):
            continue
        names, state, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        assert state in STATES, line
        for name in re.findall(r"`flyte\.([\w.]+)`", names):
            assert name not in found, f"{name} is in the table twice"
            found[name] = state
    return found


def here() -> set[str]:
    """Every public name of this package."""
    names = set(flyte.__all__)
    for module in SUBMODULES:
        names.update(f"{module}.{name}" for name in importlib.import_module(f"flyte_nb.{module}").__all__)
    return names


def value_of(name: str) -> Any:
    """What a name stands for."""
    if name.startswith("app.extras."):
        importlib.import_module("flyte_nb.app.extras")
    value: Any = flyte
    for part in name.split("."):
        value = getattr(value, part)
    return value


def test_every_public_name_is_on_the_page(root):
    """What this package has, and what the SDK has."""
    sdk = set((Path(__file__).parent / "sdk_names.txt").read_text().split())

    assert set() == (here() | sdk) - set(rows(root))


def test_every_name_that_the_page_promises_exists(root):
    """Supported, accepted and our own names; nothing else is on the page than those and names of the SDK."""
    sdk = set((Path(__file__).parent / "sdk_names.txt").read_text().split())
    for name, state in rows(root).items():
        assert name in here() | sdk, name
        if state != "not here":
            assert value_of(name) is not None, name
        if state == "ours":
            assert name not in sdk, name


def test_names_that_are_not_here_are_missing_or_refuse(root):
    """Importing works or does not; calling never does anything but say so."""
    for name, state in rows(root).items():
        if state != "not here" or name in SUBMODULES:
            continue
        try:
            value = value_of(name)
        except AttributeError:
            continue
        # Classes whose methods refuse, and functions that refuse themselves.
        refused = value if not isinstance(value, type) else getattr(value, "get", None) or value("x", image="y")
        assert refused is not None, name
        with pytest.raises(flyte.errors.OutOfScopeError):
            refused("x")
