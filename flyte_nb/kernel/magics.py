"""Magic ``%flyte``: finds the operation of a subcommand. Runs in: kernel main thread."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher
from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from flyte_nb.core.history.facts import Phase
from flyte_nb.kernel import operations
from flyte_nb.kernel.session import Session

#: What asks for help, in place of a subcommand or after it.
_HELP = frozenset({"help", "-h", "--help", "?"})


#: Most names of runs and actions that are offered.
MAX_OFFERED = 100


def help_text(name: str = "") -> str:
    """The subcommands, one line each, by the situation in which they help; only that of a name, if it is one."""
    known = operations.subcommands()
    if name in known:
        return f"{_usage(known[name])}  {known[name].help}"
    width = max(len(_usage(one)) for one in known.values())
    parts: list[str] = []
    for when in operations.SITUATIONS:
        parts.append(f"\n{when}" if parts else when)
        parts += [f"  {_usage(one):<{width}}  {one.help}" for one in sorted(known.values()) if one.when == when]
    return "\n".join(parts)


def _usage(one: operations.Subcommand) -> str:
    return f"%flyte {one.name} {one.usage}".rstrip()


def completions(line: str) -> list[str]:
    """What may stand at the end of a line ``%flyte ...``: subcommands, then runs and actions, those that failed first."""
    words = line.split()
    if not line.endswith(" "):
        words = words[:-1]
    known = operations.subcommands()
    if len(words) <= 1:
        return [*sorted(known), "help"]
    if words[1] in _HELP:
        return sorted(known)
    usage = known[words[1]].usage if words[1] in known else ""
    options = [word.strip("[]|") for word in usage.split() if word.strip("[]|").startswith("-")]
    return options + (_names() if any(name in usage for name in ("r3", "a17", "k41")) else [])


def _names() -> list[str]:
    session = Session.current
    if session is None:
        return []

    def names() -> list[str]:
        runs = list(reversed(session.store.runs.values()))
        latest = [record.actions[name] for record in runs[:1] for name in record.numbered[-MAX_OFFERED * 10 :]]
        first = [action.id for action in latest if action.phase.is_failure or action.phase is Phase.PAUSED]
        others = [action.id for action in latest if action.number]
        return list(dict.fromkeys([*first, *(r.state.run for r in runs), *others]))[:MAX_OFFERED]

    return session.gateway.ask(names)  # type: ignore[no-any-return]


@context_matcher(identifier="flyte_nb")  # type: ignore[untyped-decorator]
def complete(context: CompletionContext) -> SimpleMatcherResult:
    """IPython's matcher of lines that begin with ``%flyte``: where it has something, nothing else is offered."""
    line = context.text_until_cursor.rpartition("\n")[2]
    if not line.startswith("%flyte "):
        return {"completions": [], "suppress": False}
    offered = [word for word in completions(line) if word.startswith(context.token)]
    return {"completions": [SimpleCompletion(word) for word in offered], "suppress": bool(offered), "ordered": True}


def install_completion(ip: Any) -> Callable[[], None]:
    """Complete lines that begin with ``%flyte``. Returns a function that undoes it."""
    matchers = ip.Completer.custom_matchers
    matchers.append(complete)
    return lambda: matchers.remove(complete) if complete in matchers else None


@magics_class
class FlyteMagics(Magics):
    """``%flyte``."""

    @no_var_expand
    @line_magic
    def flyte(self, line: str) -> Any:
        """Look at and steer the runs of this kernel."""
        name, _, rest = line.strip().partition(" ")
        text = self._answer(name or "status", rest.strip())
        if text:
            print(text)  # noqa: T201

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        # What `%flyte?` shows.
        FlyteMagics.flyte.__doc__ = f"Look at and steer the runs of this kernel.\n\n{help_text()}"

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
