"""Logging: ``flyte.logger``, ``flyte.system_logger``, and the names that every log record carries. Runs in: everywhere.

Records of all loggers carry ``run_name``, ``action_name`` (None outside a task) and ``is_flyte_internal``, so that a format
string may use them. Inside a task `flyte_nb.core.attempts.output` takes the records; outside, and in local mode, they are
printed.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

from flyte_nb.core.attempts.output import OUTPUT, StreamProxy
from flyte_nb.core.tasks.context import of_task

DEFAULT_LEVEL = logging.WARNING
DEFAULT_USER_LEVEL = logging.INFO


def level_of(value: str | int | None, default: int) -> int:
    """A logging level from a name in any case or a number; ``default`` for anything else."""
    if isinstance(value, int):
        return value
    text = (value or "").strip()
    if text.isdigit():
        return int(text)
    found = logging.getLevelNamesMapping().get(text.upper())
    return default if found is None else found


_made_before = logging.getLogRecordFactory()


def _stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = _made_before(*args, **kwargs)
    context = of_task()
    record.run_name = context.run.name if context else None
    record.action_name = (context.trace or context.action) if context else None
    name = record.name or ""  # None, where a record is made again from its attributes (`logging.makeLogRecord`)
    record.is_flyte_internal = name == "flyte" or (name.startswith("flyte.") and not name.startswith("flyte.user"))
    return record


class _Console(logging.Handler):
    """Prints Flyte's records where no other handler does: outside tasks, and in local mode."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = self._stream()
        if stream is None:
            return
        try:
            run, action = getattr(record, "run_name", None), getattr(record, "action_name", None)
            where = f"[{run}][{action}] " if run else ""
            ours = "[flyte] " if getattr(record, "is_flyte_internal", False) else ""
            stream.write(f"{where}{ours}{record.levelname} {self.format(record)}\n")
            stream.flush()
        except Exception:
            self.handleError(record)

    def _stream(self) -> TextIO | None:
        # A program that has set up logging itself prints these records already.
        if logging.getLogger().handlers:
            return None
        stream = sys.stderr
        if isinstance(stream, StreamProxy):
            return stream.original if stream.tee or OUTPUT.get() is None else None
        return stream


def _set_up() -> tuple[logging.Logger, logging.Logger]:
    system, user = logging.getLogger("flyte"), logging.getLogger("flyte.user")
    if logging.getLogRecordFactory() is not _stamped:
        logging.setLogRecordFactory(_stamped)
    if not any(isinstance(handler, _Console) for handler in system.handlers):
        system.addHandler(_Console())
    set_levels(os.environ.get("LOG_LEVEL"), os.environ.get("USER_LOG_LEVEL"))
    return system, user


def set_levels(system: str | int | None = None, user: str | int | None = None) -> None:
    """Set what is logged.

    Args:
        system: Level of ``flyte.system_logger``, a name or a number; None = WARNING.
        user: Level of ``flyte.logger``; None = INFO.
    """
    logging.getLogger("flyte").setLevel(level_of(system, DEFAULT_LEVEL))
    logging.getLogger("flyte.user").setLevel(level_of(user, DEFAULT_USER_LEVEL))


#: ``flyte.system_logger``, and ``flyte.logger``.
system_logger: logging.Logger
logger: logging.Logger
system_logger, logger = _set_up()
