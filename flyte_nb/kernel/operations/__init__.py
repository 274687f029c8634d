"""What a person can have done with runs, actions and the cluster. Runs in: kernel.

One module per operation, found by itself: it holds what is done, the ``%flyte`` word that asks for it (`word`), and the
button that does (`button`). A new operation is a new file here and nothing else.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from flyte_nb.kernel.session import Session

#: Does what a word asks for; returns text to print, or None. On the kernel's main thread.
Say = Callable[..., str | None]
#: Does what a button asks for, for a run, with the button's arguments. On the engine thread: it must not block.
Press = Callable[["Session", str, Mapping[str, Any]], Any]


class Word(NamedTuple):
    """One subcommand of ``%flyte``."""

    name: str
    #: What may follow it: "[r3/]a17 [--traceback]".
    usage: str
    #: One line.
    help: str
    say: Say
    #: Whether what follows is given as it was typed, in one piece: an expression.
    raw: bool = False


_words: dict[str, Word] = {}
_buttons: dict[str, Press] = {}


def word(name: str, usage: str, help: str, *, raw: bool = False) -> Callable[[Say], Say]:  # noqa: A002 - what it is
    """Make a function ``(session, *words) -> text`` a subcommand of ``%flyte``; `raw`: ``(session, line) -> text``."""

    def register(say: Say) -> Say:
        _words[name] = Word(name, usage, help, say, raw)
        return say

    return register


def button(op: str) -> Callable[[Press], Press]:
    """Have a function ``(session, run, args) -> answer`` called for a button of the view."""

    def register(press: Press) -> Press:
        _buttons[op] = press
        return press

    return register


@functools.cache
def _load() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def words() -> Mapping[str, Word]:
    """All subcommands by name."""
    _load()
    return _words


def buttons() -> Mapping[str, Press]:
    """What each button does, by its operation."""
    _load()
    return _buttons
