"""The ``%flyte`` magic: each subcommand has a twin in Python. Runs in: kernel main thread."""

from __future__ import annotations

import shlex
from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from flyte_nb.core.model import Action
from flyte_nb.core.store import RunRecord
from flyte_nb.kernel.session import Session

HELP = """%flyte status            cluster and latest run
%flyte runs              runs of this kernel
%flyte show [r3]         show a run here
%flyte logs [r3/]a17     what an action printed; --traceback for its error
%flyte cancel [r3[/a17]] cancel a run or one action
%flyte cluster           which cluster, its workers and slots; `restart` replaces it
%flyte debug a17         debugger at the remote frame of a failed action
%flyte nest              allow asyncio.run() in cells (applies nest-asyncio2)"""


@magics_class
class FlyteMagics(Magics):
    """``%flyte``."""

    @no_var_expand
    @line_magic
    def flyte(self, line: str) -> Any:
        """Look at and steer the runs of this kernel: `%flyte help` lists the subcommands."""
        words = shlex.split(line) or ["status"]
        name, args = words[0], words[1:]
        method = getattr(self, f"_{name}", None)
        if name.startswith("_") or method is None:
            print(f"%flyte {name}: no such subcommand.\n{HELP}")  # noqa: T201
            return
        session = Session.current
        if session is None:
            print("flyte_nb has no session: %load_ext flyte_nb starts one.")  # noqa: T201
            return
        text = method(session, *args)
        if text:
            print(text)  # noqa: T201

    def _help(self, _session: Session, *_args: str) -> str:
        return HELP

    def _status(self, session: Session, *_args: str) -> str:
        return "\n".join([session.cluster_text(), *self._lines(session)[-1:]])

    def _runs(self, session: Session, *_args: str) -> str:
        return "\n".join(self._lines(session)) or "No runs yet."

    def _lines(self, session: Session) -> list[str]:
        def rows() -> list[str]:
            lines = []
            for name, record in session.store.runs.items():
                state = record.state
                took = f"{(state.ended_at or session.engine.controller.clock.time()) - state.started_at:.1f} s"
                lines.append(
                    f"{name:>5}  {state.phase.value:<10} {took:>8}  {len(record.numbered):>7,} actions  {state.title}"
                )
            return lines

        return session.port.ask(rows)  # type: ignore[no-any-return]

    def _cluster(self, session: Session, *args: str) -> str:
        if args and args[0] == "restart":
            session.restart_cluster()
            session = Session.current or session
            session.wait_ready(60)
        return session.cluster_text()

    def _cancel(self, session: Session, *args: str) -> str:
        name = args[0] if args else self._latest(session)
        if not name:
            return "No runs yet."

        def cancel() -> str:
            if name in session.store.runs:
                session.abort_run(name, "%flyte cancel")
                return f"Cancelling {name}."
            found = session.store.find(name)
            if found is None:
                return f"There is no run or action {name}; `%flyte runs` lists the runs."
            record, action = found
            session.abort_action(record.state.run, action.name, "%flyte cancel")
            return f"Cancelling {record.state.run}/{action.id} {action.label}."

        return session.port.ask(cancel)  # type: ignore[no-any-return]

    def _find(self, session: Session, name: str) -> tuple[RunRecord, Action] | None:
        return session.port.ask(session.store.find, name)  # type: ignore[no-any-return]

    def _latest(self, session: Session) -> str:
        return next(reversed(session.store.runs), "")

    def _show(self, session: Session, *args: str) -> str:
        name = args[0] if args else self._latest(session)
        if name not in session.store.runs:
            return f"There is no run {name or 'yet'}; `%flyte runs` lists them."
        cell = session.cells.current

        def show() -> None:
            view = session.show(name, cell)
            if session.store.runs[name].state.ended_at is not None:
                view.finish()

        session.port.ask(show)
        return ""

    def _logs(self, session: Session, *args: str) -> str:
        names = [a for a in args if not a.startswith("-")]
        if not names:
            return "Which action? %flyte logs a17"
        found = self._find(session, names[0])
        if found is None:
            return f"There is no action {names[0]}."
        record, action = found
        if "--traceback" in args:
            if action.error is None:
                return f"{action.label} has no error."
            if action.error.record is None:
                return f"{action.error.code}: {action.error.message}"
            from flyte_nb.core.failure_record import FailureRecord
            from flyte_nb.core.failure_text import full_text

            return str(full_text(FailureRecord.loads(action.error.record)))
        log = record.logs.of(action.name)
        hidden = f"\n[{log.hidden:,} lines hidden]" if log.hidden else ""
        return "\n".join(line.text for line in log) + hidden or f"{action.label} printed nothing."

    def _debug(self, session: Session, *args: str) -> str:
        if not args:
            return "Which action? %flyte debug a17"
        found = self._find(session, args[0])
        if found is None:
            return f"There is no action {args[0]}."
        _, action = found
        if action.error is None or action.error.record is None:
            return f"{action.label} has no failure record: it {action.phase.value}."
        from flyte_nb.core.failure_record import FailureRecord
        from flyte_nb.kernel.debug import post_mortem

        post_mortem(FailureRecord.loads(action.error.record))
        return ""

    def _nest(self, _session: Session, *_args: str) -> str:
        from flyte_nb.kernel.nest import apply

        return apply()
