"""What `init` refuses to be told about a cluster."""

from __future__ import annotations

from typing import Any

import pytest

import flyte_nb
from flyte_nb.core.runs.defaults import check_cluster_options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"n_workers": 0}, ValueError, "n_workers=0: give a whole number"),
        ({"n_workers": "two"}, ValueError, "n_workers='two'"),
        ({"threads_per_worker": 1.5}, ValueError, "threads_per_worker=1.5"),
        ({"memory_limit": "lots"}, ValueError, "memory_limit='lots'"),
        ({"workers": 2}, TypeError, "init() has no option workers. Did you mean n_workers?"),
    ],
)
def test_init_refuses_at_once_what_makes_no_cluster(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """The error comes from `init`, not from the first task, and names the option and its value."""
    with pytest.raises(error) as caught:
        flyte_nb.init(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"n_workers": 2, "threads_per_worker": None, "memory_limit": "2 GiB"},
        *({"memory_limit": size} for size in ("500MB", "1.5g", "auto", 10**9, 0.5, None)),
        {"endpoint": "dns:///x", "insecure": True, "headless": True, "api_key": "x", "root_dir": ".", "org": "o"},
    ],
)
def test_what_dask_and_flyte_take_is_let_through(options: dict[str, Any]) -> None:
    """Sizes as Dask writes them, and the keywords of Flyte's own ``init``."""
    check_cluster_options(options)
