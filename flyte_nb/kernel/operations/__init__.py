"""Operations on runs, actions and the cluster: subcommands of ``%flyte``, and buttons. Runs in: kernel.

One module per operation, found by itself: it holds what is done, the subcommand of ``%flyte`` that asks for it
(`subcommand`), and the button that does (`button`). A new operation is a new file here and nothing else.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flyte_nb.kernel.session import Session

#: Does what a subcommand asks for; returns text to print, or None. On the kernel's main thread.
Reply = Callable[..., str | None]
#: Does what a button asks for, for a run, with the button's arguments. On the engine thread: it must not block.
Button = Callable[[Session, str, Mapping[str, Any]], Any]


class Subcommand(NamedTuple):
    """One subcommand of ``%flyte``."""

    name: str
    #: What may follow it: "[r3/]a17 [--traceback]".
    usage: str
    #: One line.
    help: str
    reply: Reply
    #: Whether what follows is given as it was typed, in one piece: an expression.
    raw: bool = False
    #: The situation in which a person wants it: a heading of the help.
    when: str = ""


#: Situations in which a person looks for a subcommand, in the order of the help.
LOOK, FAILED, SLOW = "To look at it", "It failed", "It is slow, or does not end"
WAITS, LOST, SETUP = "It waits for you", "It was cut off, or is of yesterday", "Cluster and settings"
SITUATIONS = (LOOK, FAILED, SLOW, WAITS, LOST, SETUP)
_subcommands: dict[str, Subcommand] = {}
_buttons: dict[str, Button] = {}


def subcommand(
    name: str, usage: str, help: str, *, raw: bool = False, when: str = SETUP  # noqa: A002 - what it is
) -> Callable[[Reply], Reply]:  # fmt: skip
    """Make a function ``(session, *words) -> text`` a subcommand of ``%flyte``.

    Args:
        name: Of the subcommand.
        usage: What may follow it.
        help: One line about it.
        raw: Whether the function is given what follows in one piece: ``(session, line) -> text``.
        when: The situation in which a person wants it, one of `SITUATIONS`.
    """

    def register(reply: Reply) -> Reply:
        _subcommands[name] = Subcommand(name, usage, help, reply, raw, when)
        return reply

    return register


def button(op: str) -> Callable[[Button], Button]:
    """Have a function ``(session, run, args) -> answer`` called for a button of the view."""

    def register(function: Button) -> Button:
        _buttons[op] = function
        return function

    return register


async def answered(ask: Callable[[Callable[[Any], None]], object], within: float | None = None) -> Any:
    """What is given to the callback that `ask` is called with. On the engine thread.

    Raises:
        TimeoutError: Nothing was within so many seconds; None = it waits.
    """
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ask(lambda value: None if answer.done() else answer.set_result(value))
    return await asyncio.wait_for(answer, within)


@functools.cache
def _load() -> None:
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        importlib.import_module(module.name)


def subcommands() -> Mapping[str, Subcommand]:
    """All subcommands by name."""
    _load()
    return _subcommands


def buttons() -> Mapping[str, Button]:
    """What each button does, by its operation."""
    _load()
    return _buttons
