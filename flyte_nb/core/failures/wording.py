"""Wording of failures for people: names of actions and cells, colours, commands. Runs in: everywhere.

Texts of failures are made in this package, and only the kernel knows that action ``3f9a...`` is ``a17`` and which cell a file
name stands for. Its session registers that once, with `configure`; without it the texts are complete, with longer names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


def _file(filename: str) -> str:
    cell = re.fullmatch(r"<ipython-input-(\d+)-\w+>", filename)
    if cell:
        return f"Cell In[{cell[1]}]"
    home = f"{Path.home()}/"
    return "~/" + filename[len(home) :] if filename.startswith(home) and len(home) > 2 else filename


class Standing(NamedTuple):
    """State of a failed action's run, for the lines below the error."""

    #: Name of the run; "" if unknown.
    run: str = ""
    #: How many of how many failed, and where the others stand.
    lines: tuple[str, ...] = ()


class Presentation(NamedTuple):
    """What the texts of failures depend on."""

    #: Short name ("a17") of an action's full name ("r3/3f9a..."); "" if it has none.
    name_of: Callable[[str], str] = lambda _action: ""
    #: A file name as people know it: "Cell In[5]", "~/helper.py".
    file: Callable[[str], str] = _file
    #: Whether to use ANSI colours.
    color: bool = False
    #: Whether IPython's commands can be typed where the text is read.
    commands: bool = False
    #: State of the run of an action (by its full name), as of now.
    standing: Callable[[str], Standing] = lambda _action: Standing()


_current = Presentation()


def configure(presentation: Presentation) -> None:
    """Use this wording in this process from now on."""
    global _current
    _current = presentation


def current() -> Presentation:
    """The wording in use."""
    return _current
