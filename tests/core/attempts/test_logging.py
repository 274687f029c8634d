"""Log records, made by anybody, can be made again from their attributes."""

from __future__ import annotations

import copy
import functools
import json
import logging
import logging.handlers
import pickle
import queue
from collections.abc import Callable
from typing import Any

import pytest

import flyte_nb as flyte


def through_a_queue(record: logging.LogRecord) -> logging.LogRecord:
    """As a queue handler hands it on."""
    handler = logging.handlers.QueueHandler(queue.Queue())
    handler.emit(record)
    found: logging.LogRecord = handler.queue.get_nowait()  # type: ignore[attr-defined]
    return found


def through_a_socket(record: logging.LogRecord) -> logging.LogRecord:
    """As a receiver of a socket handler's makes it."""
    sent = logging.handlers.SocketHandler("nowhere", 1).makePickle(record)
    return logging.makeLogRecord(pickle.loads(sent[4:]))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"msg": "a"},
        {"name": None},
        {"name": ""},
        {"msg": "a", "args": (1,)},
        {"levelno": 30, "levelname": "WARNING"},
        {"msg": None, "args": None},
        {"msg": {"event": "a", "k": [1]}},
        {"exc_info": (None, None, None), "exc_text": "text"},
        {"name": "flytekit.core", "msg": "b"},
        {"name": 3},
        {"extra_of_mine": object},
        {"run_name": "r9", "action_name": "a9"},
        {"created": 1.5, "msecs": 2, "thread": None, "process": -1},
    ],
    ids=range(14),
)
def test_a_record_is_made_of_any_attributes(attributes: dict[str, Any]) -> None:
    record = logging.makeLogRecord(attributes)
    assert vars(record) | attributes == vars(record)
    assert record.is_flyte_internal is False  # type: ignore[attr-defined]


def through_a_listener(record: logging.LogRecord) -> logging.LogRecord:
    """As a thread that listens at a queue hands it to its handlers."""
    kept, made = Kept(), queue.Queue[logging.LogRecord]()
    listener = logging.handlers.QueueListener(made, kept)
    listener.start()
    logging.handlers.QueueHandler(made).handle(record)
    listener.stop()
    return kept.records[0]


def through_a_buffer(record: logging.LogRecord) -> logging.LogRecord:
    """As a handler keeps it for another one."""
    kept = Kept()
    buffer = logging.handlers.MemoryHandler(10, target=kept)
    buffer.handle(record)
    buffer.close()
    return kept.records[0]


def through_a_factory(record: logging.LogRecord) -> logging.LogRecord:
    """As a program makes it that wraps the factory, which it found, in one of its own."""
    found = logging.getLogRecordFactory()
    logging.setLogRecordFactory(functools.partial(found))
    try:
        return logging.makeLogRecord(vars(record))
    finally:
        logging.setLogRecordFactory(found)


class Kept(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def as_json(record: logging.LogRecord) -> logging.LogRecord:
    """As a line of JSON carries it."""
    return logging.makeLogRecord(json.loads(json.dumps({**vars(record), "msg": record.getMessage(), "args": None})))


def mapped(record: logging.LogRecord) -> logging.LogRecord:
    """As a receiver of an HTTP handler's makes it: of texts."""
    sent = logging.handlers.HTTPHandler("nowhere", "/").mapLogRecord(record)
    return logging.makeLogRecord({**sent, "args": None, "msg": record.getMessage()})


def adapted(record: logging.LogRecord) -> logging.LogRecord:
    """As an adapter logs it."""
    logger, kept = logging.getLogger(f"{record.name}.adapted"), Kept()
    logger.addHandler(kept)
    logger.propagate = False
    logging.LoggerAdapter(logger, {"mine": 1}).error(record.getMessage())
    made = kept.records[0]
    made.name, made.lineno = record.name, record.lineno
    return logging.makeLogRecord(vars(made))


@pytest.mark.parametrize(
    "way",
    [
        through_a_queue, through_a_socket, through_a_listener, through_a_buffer, through_a_factory, as_json, mapped, adapted,
        copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r)), lambda r: logging.makeLogRecord(vars(r)),
    ],
    ids=range(12),
)  # fmt: skip
@pytest.mark.parametrize("name", ["flyte", "flyte.user", "mine"])
def test_a_record_made_again_is_what_it_was(way: Callable[[logging.LogRecord], logging.LogRecord], name: str) -> None:
    record = logging.getLogger(name).makeRecord(name, logging.INFO, "f.py", 3, "said %s", ("so",), None)
    again = way(record)
    assert (again.getMessage(), again.name, again.lineno) == ("said so", name, 3)
    assert again.is_flyte_internal is (name == "flyte")  # type: ignore[attr-defined]
    assert again.run_name is None  # type: ignore[attr-defined]


env = flyte.TaskEnvironment("rebuilt")


@env.task
async def rebuilds() -> list[Any]:
    record = through_a_queue(logging.makeLogRecord({"msg": "a"}))
    return [record.getMessage(), record.run_name, record.action_name]  # type: ignore[attr-defined]


def test_in_a_task_a_rebuilt_record_names_it() -> None:
    run = flyte.with_runcontext("local").run(rebuilds)
    assert ["a", run.name, "a0"] == run.outputs()[0]
