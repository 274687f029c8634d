"""Short texts of values: bounded, the same wherever they are shown; streams that end early."""

from __future__ import annotations

import pytest

from flyte_nb.core.values.bounded import BoundedBytes, BoundedText, FullError
from flyte_nb.core.values.describe import brief, bytes_text, describe, label_of, preview, repr_with_type, strip_ansi


class Loud:
    """Its ``repr`` must not be called by a label."""

    def __repr__(self) -> str:
        raise RuntimeError("called")


def test_labels_summaries_and_reprs_differ() -> None:
    """Each has its use; only one of them asks the value."""
    value = {"a": [1, 2], "password": "hunter2", "b": Loud()}

    assert brief(value) == "{'a': [1, 2], 'password': ***, 'b': <Loud>}"
    assert describe(value) == "dict of length 3"
    assert preview(value) == "{'a': [1, 2], 'password': <redacted>, 'b': <tests.Loud>}"
    assert repr_with_type(Loud()).startswith("<Loud instance at ")
    assert repr_with_type("x" * 500).endswith("xxx' (str)")


@pytest.mark.parametrize(
    ("size", "short", "tenths"),
    [(0, "0 bytes", "0 bytes"), (999, "999 bytes", "999 bytes"), (1_234, "1.2 kB", "1.2 kB"),
     (40_000_000, "40 MB", "40.0 MB"), (2 * 1024**4, "2199 GB", "2199.0 GB")],
)  # fmt: skip
def test_bytes_are_told_in_their_unit(size: int, short: str, tenths: str) -> None:
    """With a decimal below 10, or wherever columns ask for it."""
    assert (bytes_text(size), bytes_text(size, tenths=True)) == (short, tenths)


def test_terminal_sequences_are_stripped() -> None:
    """Colours, cursor movements and titles; other text is the same object."""
    assert strip_ansi("\x1b[1;31mred\x1b[0m \x1b]0;title\x07end\x1b[2K") == "red end"
    assert strip_ansi(plain := "plain") is plain


def test_a_bounded_stream_keeps_what_fits() -> None:
    """And refuses the rest."""
    data, text = BoundedBytes(5), BoundedText(5)
    data.write(b"abcde")
    text.write("abc")
    with pytest.raises(FullError):
        data.write(b"f")
    with pytest.raises(FullError):
        text.write("defgh")

    assert (data.getvalue(), text.getvalue()) == (b"abcde", "abcde")


def test_a_float_is_told_without_the_noise_of_its_last_digits() -> None:
    """A grid of steps is readable; what has digits keeps them."""
    assert ["0.3", "1.21", "-2.4", "0.3333333333333333", "1e-05", "nan"] == [
        brief(x) for x in (0.1 * 3, 1.1 * 1.1, -12 * 0.2, 1 / 3, 1e-5, float("nan"))
    ]


def test_an_integer_that_python_does_not_write_out_is_told_by_its_size() -> None:
    """Beyond 4,300 digits ``repr`` raises: the result of a computation must not be lost to its label."""
    large = 10**5000

    assert brief(large) == "<int of 16,610 bits>"
    assert "16,610 bits" in brief([large])
    assert label_of("f", ((large,), {})) == "f(<int of 16,610 bits>)"


@pytest.mark.parametrize(
    ("end", "shown"),
    [("index.html?page=12", "ndex.html?page=12'"), ("?page=12&lang=de", "?page=12&lang=de'"), ("?pwd=letmein", "...'"),
     ("?q=more-than-short", "...'"), ("page-12", "/page-12'")],
)  # fmt: skip
def test_an_address_keeps_its_end_unless_a_secret_may_be_there(end: str, shown: str) -> None:
    """The pages of a site differ there."""
    text = brief(f"https://example.org/archive/of/articles/2026/{end}")
    assert text.endswith(shown)
    assert text.startswith("'https://exam")
    assert "letmein" not in text
