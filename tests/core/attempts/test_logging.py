"""Log records, made by anybody, can be made again from their attributes."""

from __future__ import annotations

import copy
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
    ],
)
def test_a_record_is_made_of_any_attributes(attributes: dict[str, Any]) -> None:
    record = logging.makeLogRecord(attributes)
    assert vars(record) | attributes == vars(record)
    assert record.is_flyte_internal is False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "way", [through_a_queue, through_a_socket, copy.copy, lambda r: logging.makeLogRecord(vars(r))]
)
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
