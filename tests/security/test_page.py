"""SECURITY.md names a test for each promise, and each test is there."""

from __future__ import annotations

import re
from pathlib import Path


def test_each_test_that_is_named_is_there(root: Path) -> None:
    """By its file, and by its name in it."""
    text = (root / "SECURITY.md").read_text()
    files = sorted((root / "tests").rglob("test_*.py"))
    rows = [row for row in text.splitlines() if row.startswith("| ") and row.count("|") == 4 and "| test |" not in row]

    assert len(rows) > 15
    for row in rows:
        named = row.rsplit("|", 2)[1].strip()
        assert named.startswith(("by design", "the same", "`")), row
        file = None
        for found in re.findall(r"`([^`]+)`", named):
            if found.endswith(".ts"):
                assert (root / found).exists(), found
                continue
            name, _, test = found.rpartition("::") if "::" in found else (found, "", "")
            if found.startswith("test_") and not found.endswith(".py") and not name.endswith(".py"):
                name, test = "", found
            file = next(path for path in files if str(path).endswith(f"/{name}")) if name else file
            assert file is not None, row
            assert not test or f"def {test}(" in file.read_text(), (row, test)
