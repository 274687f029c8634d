"""``@env.task(label=...)``: checked where the task is defined, filled without calling anything of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

import flyte_nb as flyte
from flyte_nb.core.settings.label import label_of_call

env = flyte.TaskEnvironment("labels")


@dataclass
class Config:
    depth: int = 4

    def __str__(self) -> str:
        raise AssertionError("a label calls nothing of the user's")

    __format__ = __repr__ = __str__  # type: ignore[assignment]


class Point(NamedTuple):
    x: int


def fit(params: Any = None, fold: Any = 2, url: str = "s3://b/k", token: str = "", lr: float = 0.001) -> None:
    """Inputs of all kinds."""


@pytest.mark.parametrize(
    ("label", "given", "text"),
    [
        ("{fold}", {}, "2"),
        ("{params[depth]}/{fold:03d}", {"params": {"depth": 6}}, "6/002"),
        ("depth {params.depth}", {"params": Config()}, "depth 4"),
        ("{params.x} {params[0]}", {"params": Point(3)}, "3 3"),
        ("{params}", {"params": Config()}, "Config(depth=4)"),
        ("{url} {url!r}", {}, "s3://b/k 's3://b/k'"),
        ("{lr:.0e}", {}, "1e-03"),
        ("{lr:d}", {}, "0.001"),  # a specification of another type
        ("{params.nothing} {params[9]}", {"params": [1]}, "? ?"),
        ("{{{fold}}}", {}, "{2}"),
        ("{token}", {"token": "abcdefgh"}, "***"),
        ("{url}", {"url": "https://example.org/" + "a" * 200 + "/page7.html"}, "/page7.html"),
        ("two\nlines {fold}", {}, "two lines 2"),
        ("{url}", {"url": ""}, "fit(url='')"),
    ],
)
def test_it_is_filled(label: str, given: dict[str, Any], text: str) -> None:
    """Defaults count, what is inside of an argument is reached, secrets are masked, what is long is cut in the middle."""
    said = label_of_call(env.task(label=label)(fit), (), given)
    assert said.endswith(text) if text.startswith("/") else said == text
    assert len(said) <= 240


@pytest.mark.parametrize(
    ("label", "error", "words"),
    [
        ("{flod}", ValueError, "Did you mean {fold}?"),
        ("{}", ValueError, "takes params, fold, url, token, lr"),
        ("{0}", ValueError, "no name of an input"),
        ("{fold", ValueError, "A brace itself is written twice"),
        ("{fold:{lr}}", ValueError, "no name of an input"),
        ("x" * 300, ValueError, "300 characters"),
        (7, TypeError, "must be a text"),
    ],
)
def test_what_cannot_be_filled_is_refused_at_the_definition(label: Any, error: type[Exception], words: str) -> None:
    """With the remedy; `override` refuses the same."""
    with pytest.raises(error, match=words.replace("{", r"\{").replace("}", r"\}").replace("?", r"\?")):
        env.task(label=label)(fit)
    with pytest.raises(error):
        env.task(fit).override(label=label)
