"""Magic ``%flyte``: finds the operation of a subcommand. Runs in: kernel main thread."""

from __future__ import annotations

import difflib
import shlex
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from flyte_nb.kernel import operations
from flyte_nb.kernel.session import Session

#: What asks for help, in place of a subcommand or after it.
_HELP = frozenset({"help", "-h", "--help", "?"})


def help_text(name: str = "") -> str:
    """The subcommands, one line each; only that of a name, if it is one."""
    known = operations.subcommands()
    chosen = [known[name]] if name in known else sorted(known.values())
    rows = [(f"%flyte {w.name} {w.usage}".rstrip(), w.help) for w in chosen]
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
        known = operations.subcommands()
        if name in _HELP:
            return help_text(rest)
        if rest in _HELP:
            return help_text(name)
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean `%flyte {close[0]}`?" if close else ""
            return f"%flyte {name}: no such subcommand.{meant}\n{help_text()}"
        if Session.current is None:
            return "No cluster: flyte_nb.shutdown() closed it. The next task starts one, or flyte_nb.init(n_workers=2)."
        found = known[name]
        try:
            words = [rest] if found.raw else shlex.split(rest)
        except ValueError as exc:
            return f"%flyte {name} {rest}: {exc}."
        return found.reply(Session.current, *words)
