"""The ``%flyte`` magic: finds the operation that a word names. Runs in: kernel main thread."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from flyte_nb.kernel import operations
from flyte_nb.kernel.session import Session


def help_text() -> str:
    """All subcommands, one line each."""
    rows = [(f"%flyte {w.name} {w.usage}".rstrip(), w.help) for w in sorted(operations.words().values())]
    width = max(len(usage) for usage, _ in rows)
    return "\n".join(f"{usage:<{width}}  {text}" for usage, text in rows)


@magics_class
class FlyteMagics(Magics):
    """``%flyte``."""

    @no_var_expand
    @line_magic
    def flyte(self, line: str) -> Any:
        """Look at and steer the runs of this kernel: `%flyte help` lists the subcommands."""
        name, _, rest = line.strip().partition(" ")
        text = self._answer(name or "status", rest.strip())
        if text:
            print(text)  # noqa: T201

    def _answer(self, name: str, rest: str) -> str | None:
        if name in {"help", "-h", "--help"}:
            return help_text()
        known = operations.words()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean `%flyte {close[0]}`?" if close else ""
            return f"%flyte {name}: no such subcommand.{meant}\n{help_text()}"
        if Session.current is None:
            return "flyte_nb has no session: %load_ext flyte_nb starts one."
        found = known[name]
        return found.say(Session.current, *([rest] if found.raw else shlex.split(rest)))
