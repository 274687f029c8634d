"""Copies of a task with other settings: equal ones are made once, and what workers cannot tell apart travels once."""

from __future__ import annotations

from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions

env = flyte.TaskEnvironment("copies")


@env.task(retries=2)
def f(x: int) -> int:
    return x


@pytest.mark.parametrize(
    "changes",
    [
        {"short_name": "a"}, {"retries": 3}, {"retries": 3, "short_name": "b"}, {"timeout": 5.0}, {"cache": "auto"},
        {"links": ()}, {"max_inline_io_bytes": 10_000}, {"queue": "q"},
    ],
)  # fmt: skip
def test_equal_overrides_are_one_task(changes: dict[str, Any]) -> None:
    assert f.override(**changes) is f.override(**dict(reversed(changes.items())))
    assert f.override(**changes) is not f


def test_what_may_change_itself_is_read_again() -> None:
    variables = {"A": "1"}
    first = f.override(env_vars=dict(variables))
    variables["A"] = "2"
    assert f.override(env_vars=variables).config.env_vars == {"A": "2"}
    assert first.config.env_vars == {"A": "1"}


def test_a_number_is_no_truth_value() -> None:
    assert f.override(retries=1).config.retries.count == 1
    with pytest.raises((TypeError, ValueError)):
        f.override(retries=True)
    with pytest.raises(TypeError):
        f.override(retrys=1)


def test_a_copy_of_a_copy_keeps_what_that_changed() -> None:
    # None means "keep": of the copy's own settings, not of the task's.
    assert f.override(retries=3).override(retries=None).config.retries.count == 3
    assert f.override(retries=None).config.retries.count == 2
    assert f.override(short_name="a").override(retries=4).config.short_name == "a"
    assert f.override(retries=4).config.short_name == "f"


def test_copies_that_workers_cannot_tell_apart_share_the_code_that_travels() -> None:
    versions = CodeVersions(Blobs())
    plain = versions.of(f)
    for i in range(100):
        assert versions.of(f.override(short_name=f"fit {i}", retries=i)) is plain
    large = flyte.Resources(memory="1Gi")
    limited = {versions.of(f.override(resources=large, short_name=f"fit {i}")).id for i in range(100)}
    assert len(limited) == 1
    assert plain.id not in limited
    others = [{"A": "1"}, {"A": "2"}, {"B": "1"}]
    assert len({versions.of(f.override(env_vars=each)).id for each in others}) == 3
    for changes in ({"timeout": 5}, {"max_inline_io_bytes": 10}, {"reusable": flyte.ReusePolicy(replicas=2)}):
        assert versions.of(f.override(**changes)).id != plain.id, changes


def test_many_different_copies_are_forgotten_and_stay_right() -> None:
    copies = [f.override(retries=i) for i in range(500)]
    assert [each.config.retries.count for each in copies] == list(range(500))
    assert f.override(retries=0).config.retries.count == 0
