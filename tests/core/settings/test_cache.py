"""The cache object and its versions."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from flyte_nb.core.settings.cache import Cache, CachePolicy, FunctionBodyPolicy, VersionParameters


class Constant:
    """A policy of the user's."""

    def get_version(self, salt: str, params: VersionParameters[..., Any]) -> str:
        """Always the same."""
        return f"{salt}-c"


def one(x: int) -> int:
    return x


def two(x: int) -> int:
    return x + 1


def test_words_for_behavior() -> None:
    """In any case, with Flyte's aliases."""
    on, off = ["auto", "AUTO", "enable", "enabled", "On", "true", "yes"], ["disable", "off", "False", "no", "none"]

    assert {"auto"} == {Cache.of(word).behavior for word in on}
    assert {"disable"} == {Cache.of(word).behavior for word in [*off, None]}
    assert Cache.of("override").is_enabled()
    assert not Cache.of("off").is_enabled()


@pytest.mark.parametrize("word", ["sometimes", "", None, 3], ids=repr)
def test_unknown_word_is_refused_with_the_known_ones(word: Any) -> None:
    """The remedy is in the message."""
    with pytest.raises(ValueError, match=r"Invalid cache behavior.*'auto', 'override' or 'disable'.*enabled"):
        Cache(word)


def test_anything_else_is_no_cache() -> None:
    """A cache is an object or a word."""
    with pytest.raises(TypeError, match="cache must be a Cache"):
        Cache.of(3)  # type: ignore[arg-type]
    cache = Cache("auto")
    assert cache is Cache.of(cache)


def test_ignored_inputs_and_age_have_one_form() -> None:
    """However they were given."""
    assert ("x",) == Cache("auto", ignored_inputs="x").get_ignored_inputs()
    assert ("x", "y") == Cache("auto", ignored_inputs=("x", "y")).ignored_inputs
    assert [60.0, 60.0, None] == [Cache("auto", max_age=age).max_age_s for age in (60, timedelta(minutes=1), None)]
    for age in (-1, "old"):
        with pytest.raises(ValueError, match="max_age"):
            Cache("auto", max_age=age)  # type: ignore[arg-type]


def test_version_follows_function_salt_and_policies() -> None:
    """What changes one of them changes the version."""

    def version(func: Any, **settings: Any) -> str:
        return Cache("auto", **settings).get_version(VersionParameters(func))

    assert version(one) == version(one)
    assert len({version(one), version(two), version(one, salt="s"), version(one, policies=Constant())}) == 4
    assert version(one, policies=[Constant()]) == version(two, policies=Constant())


def test_version_override_needs_no_function() -> None:
    """A pinned version is just that."""
    assert Cache("override", version_override="v1").get_version() == "v1"
    with pytest.raises(ValueError, match="VersionParameters"):
        Cache("auto").get_version()
    with pytest.raises(ValueError, match="version_override"):
        Cache("auto").get_version(VersionParameters(None))


def test_policies_are_checked() -> None:
    """A policy has get_version."""
    assert isinstance(Constant(), CachePolicy)
    assert isinstance(FunctionBodyPolicy(), CachePolicy)
    with pytest.raises(ValueError, match="get_version"):
        Cache("auto", policies=[3])  # type: ignore[list-item]


def test_cache_survives_pickle() -> None:
    """It travels with its task."""
    cache = Cache("auto", ignored_inputs="x", max_age=5, policies=Constant())
    again = pickle.loads(pickle.dumps(cache))

    assert (cache.behavior, cache.ignored_inputs, cache.max_age_s) == (
        again.behavior,
        again.ignored_inputs,
        again.max_age_s,
    )
