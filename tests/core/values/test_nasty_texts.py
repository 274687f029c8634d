"""A megabyte of any text of the user's is read in time that grows with its length, wherever one is taken.

A regular expression that begins anew at each letter takes minutes for it, and holds the GIL meanwhile: nothing else of the
worker answers. Measured is the time of this thread, and allowed is ten times what the slowest takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flyte_nb.core.attempts.output import Output
from flyte_nb.core.cache import rebind
from flyte_nb.core.failures import traceback_text, wording
from flyte_nb.core.failures.capture import capture
from flyte_nb.core.failures.snapshot import SizeBudget, keep
from flyte_nb.core.history.facts import LogLine
from flyte_nb.core.history.logbook import LogBook
from flyte_nb.core.history.report_page import page
from flyte_nb.core.runs import defaults
from flyte_nb.core.settings.resources import Resources
from flyte_nb.core.values import describe, redact
from flyte_nb.core.values.describe import label_of
from flyte_nb.core.values.tables import table_of
from flyte_nb.kernel.cells import await_in_magics
from flyte_nb.kernel.cells.names import CellNames
from flyte_nb.kernel.cells.tracker import title_of
from flyte_nb.views import words
from flyte_nb.views.browser import query
from flyte_nb.views.printed import html
from flyte_nb.worker.process.logfile import LogFile

SIZE = 1_000_000
#: Seconds of this thread: the slowest takes about 0.08 where nothing else runs.
ALLOWED = 0.8

UNITS = (
    "A", "a_", "aA", "eyJ", "-eyJ", "eyJaaaaaaaa.", "eyJaaaaaaaa-.", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY", "://", "://a:", "://a:b", "a=", "a='", "password=", "'a': ", "Bearer ", "ghp_", "\x1b[",
    "\x1b[0;", "\x1b]8;;", "\x1bP", "\x9b", "\x9d", "\r", "\n", " ", " \n", "\r\n", "\t=", "/flyte_nb-", "/a", "<", "&",
    "\u202e", "(", "[", "'", '"', "\\", "a.b.", "x@", "1", "1.py:", "<ipython-input-1-", "#", "\ud800",
)  # fmt: skip
TEXTS = {
    **{unit: (unit * (SIZE // len(unit) + 1))[:SIZE] for unit in UNITS},
    "a name and blanks": "a" + " " * SIZE + "b",
    "bearer and blanks": "Bearer " + " " * SIZE,
    "a comment and blanks": "# a" + " " * SIZE + "b",
    "a number and blanks": "1" + " " * SIZE + "!",
    "a magic and blanks": "%time " + " " * SIZE,
    "a token of dashes": "-eyJaaaaaaaaa" * (SIZE // 13) + "!",
    "paths": "/a" * 2_000 + "!" + "/flyte_nb-a" * (SIZE // 11),
}


def _captured(text: str) -> Any:
    def work(token: str, rows: list[str]) -> None:
        error = ValueError(text)
        error.add_note(text)
        raise error

    try:
        work(text, [text] * 3)
    except ValueError as exc:
        return capture(exc, task="e.t", action="a1", label=text, attempt=0), exc
    raise AssertionError


def _frame(text: str) -> pd.DataFrame:
    return pd.DataFrame({text: [text, "b"], "c": [1, 2]}, index=[text, "x"])


def _sink() -> Any:
    return SimpleNamespace(line=lambda line: None)


TAKERS: dict[str, Callable[[str], object]] = {
    "scrub": redact.scrub,
    "scrub_code": redact.scrub_code,
    "scrub_start": lambda text: redact.scrub_start(text, 200),
    "is_secret_name": redact.is_secret_name,
    "plain": describe.plain,
    "strip_ansi": describe.strip_ansi,
    "brief": lambda text: describe.brief([text, {text: text}]),
    "describe": lambda text: describe.describe(text) + describe.preview([text, {text: text}]),
    "label": lambda text: label_of("f", ((text, [text]), {"password": text, "b": {text: text}}), ("a", "b")),
    "local": lambda text: keep("x", {"a": [text], text: text}, SizeBudget(64_000, 0.5)),
    "failure": _captured,
    "traceback": lambda text: traceback_text.render(ValueError(text)),
    "folded errors": lambda text: traceback_text.fold_texts([(text[:200], text[:200])] * 100),
    "columns": lambda text: table_of(_frame(text)),
    "array": lambda text: table_of(np.array([[text, text]])),
    "report": lambda text: page([("main", text), ("b", text)]),
    "log": lambda text: LogBook().add("a1", (LogLine(0.0, "stdout", text),)),
    "first line": words.first_line,
    "shown": lambda text: words.shown(text, 120),
    "location": lambda text: words.location(text[:4_000]),
    "file": lambda text: wording.Presentation().file(text),
    "html": lambda text: html._safe(text, 200),
    "title": title_of,
    "magic": await_in_magics._TIME_LINE.match,
    "cell's name": CellNames(SimpleNamespace(compile=None)).place,
    "search": lambda text: query._matcher(query.parse_query({"text": text}), 0.0),
    "cached pickle": lambda text: rebind._session_files(text.encode("utf-8", "surrogatepass")),
    "memory": lambda text: (defaults._MEMORY.fullmatch(text), defaults._PLAIN_VALUE.search(text)),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_a_megabyte_of_anything_is_read_at_once(taker: str) -> None:
    """No pattern is tried from each place anew."""
    take = TAKERS[taker]
    slow = {}
    for name, text in TEXTS.items():
        began = time.thread_time()
        take(text)
        if (spent := time.thread_time() - began) > ALLOWED:
            slow[name] = round(spent, 2)

    assert {} == slow


def test_what_is_printed_is_read_in_time_that_grows_with_it(tmp_path) -> None:
    """A megabyte of line ends is a million lines: they cost what they cost, each, and no more."""
    for name in ("\n", "\r", "\r\n", "A", "\x1b["):
        spent = []
        for size in (SIZE // 8, SIZE):
            began = time.thread_time()
            Output(_sink).write("stdout", TEXTS[name][:size])
            LogFile(tmp_path / "1").write(TEXTS[name][:size])
            spent.append(time.thread_time() - began)

        assert spent[1] < 8 * 4 * spent[0] + ALLOWED, name


def test_quantities_are_read_at_once() -> None:
    """A wrong amount of memory is refused, however long it is."""
    began = time.thread_time()
    for name in ("a number and blanks", " ", "A"):
        with pytest.raises(ValueError):
            Resources(memory=TEXTS[name])

    assert time.thread_time() - began < ALLOWED
