"""Fixtures that every test folder shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Results that tests cache, here and in kernels they start, stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLYTE_NB_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FLYTE_NB_HISTORY", "off")
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parents[1]
