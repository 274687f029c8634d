"""Names of cells by their prompts: "In [2]:20 in work" for "/tmp/ipykernel_77/1234.py:20". Runs in: engine and main thread."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.facts import Attempt, ErrorNote

#: As `FrameRecord.where` has it for a cell: ipykernel's files are named by a hash, IPython's by the prompt and a hash.
_PLACE = re.compile(r"(?:\b(?P<hash>\d+)\.py|<ipython-input-(?P<prompt>\d+)-\w+>):(?P<line>\d+)")
#: Longest place, in characters.
MAX_PLACE = 4_000
_PROMPT = re.compile(r"\[(\d+)\]")


class CellNames:
    """Knows which cell a file stands for."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._folder: str | None = None

    def place(self, text: str) -> str:
        """The same text, with cells named by their prompts where it says "file:line"."""
        return _PLACE.sub(self._named, text[:MAX_PLACE]) if text else text

    def event(self, event: ev.Event) -> ev.Event:
        """The same event, with cells named by their prompts in the errors that it carries."""
        match event:
            case ev.AttemptEnded(error=ErrorNote() as error):
                return event._replace(error=self._note(error))
            case ev.ActionEnded(error=ErrorNote() as error, attempt=attempt):
                return event._replace(error=self._note(error), attempt=self._attempt(attempt))
            case ev.ActionNoted(note=note) if note.startswith("breakpoint at "):
                return event._replace(note=self.place(note))
        return event

    def _attempt(self, attempt: Attempt | None) -> Attempt | None:
        if attempt is None or attempt.error is None:
            return attempt
        return attempt._replace(error=self._note(attempt.error))

    def _note(self, note: ErrorNote) -> ErrorNote:
        where = self.place(note.where)
        return note if where == note.where else note._replace(where=where)

    def _named(self, match: re.Match[str]) -> str:
        prompt = match["prompt"] or self._prompt(match["hash"])
        return f"In [{prompt}]:{match['line']}" if prompt else match[0]

    def _prompt(self, hashed: str) -> str:
        describe = getattr(self._shell.compile, "format_code_name", None)
        if describe is None:
            return ""
        if self._folder is None:
            self._folder = _cells_folder()
        found = describe(str(Path(self._folder) / f"{hashed}.py"))  # ("Cell", "In[5]")
        number = _PROMPT.search(" ".join(map(str, found))) if found else None
        return number[1] if number else ""


def _cells_folder() -> str:
    try:
        from ipykernel.compiler import get_tmp_directory

        return str(get_tmp_directory())
    except ImportError:  # IPython in a terminal.
        return ""
