"""Fixtures that every test folder shares."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

# A shell starts what it runs in the background with SIGINT ignored, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
