"""The message table: every message has its handler, and every send is in the table."""

from __future__ import annotations

import ast
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest

import flyte_nb
from flyte_nb.engine.dispatch.executor import DaskExecutor
from flyte_nb.engine.dispatch.rows import RowDispatch
from flyte_nb.engine.kernel_engine import KernelEngine
from flyte_nb.engine.links import wire
from flyte_nb.engine.links.peers import Switchboard
from flyte_nb.worker.deliveries import Deliveries
from flyte_nb.worker.host import Host

ROOT = Path(flyte_nb.__file__).parent
#: Who takes the messages of each table.
RECEIVERS = [
    (wire.ToOwner, DaskExecutor),
    (wire.AboutRows, RowDispatch),
    (wire.ToHost, Host),
    (wire.Delivery, Deliveries),
    (wire.ToHome, KernelEngine),
    (wire.ToPeer, Switchboard),
]
FIELDS = {name: fields for table, _ in RECEIVERS for name, fields in wire.fields_of(table).items()}


@pytest.mark.parametrize(("table", "receiver"), RECEIVERS)
def test_every_message_has_a_handler_that_takes_its_fields(table: Any, receiver: type) -> None:
    """Called with the sender, then with the fields, of the types in the table; nothing else is handled."""
    names = wire.fields_of(table)
    handled = {name.removeprefix("_on_") for name in vars(receiver) if name.startswith("_on_")}
    assert set(names) == handled
    for name, fields in names.items():
        handler = getattr(receiver, f"_on_{name}")
        hints = typing.get_type_hints(handler)
        taken = [hints[parameter] for parameter in list(inspect.signature(handler).parameters)[1:]]
        assert [str, *fields] == taken, name


def test_names_are_unique() -> None:
    """One process may be kernel, owner and host: its handlers are in one table."""
    assert len(FIELDS) == sum(len(wire.fields_of(table)) for table, _ in RECEIVERS)


def sends() -> list[tuple[str, ast.Tuple]]:
    """Every tuple that begins with a word and is handed to something called send, send_now, _send or reply."""
    found = []
    for path in sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = [getattr(part, "attr", "") for part in (node.func, *node.args)]
            messages = [arg for arg in node.args if isinstance(arg, ast.Tuple) and arg.elts]
            if {"send", "send_now", "_send", "reply"} & set(called):
                found += [(f"{path.relative_to(ROOT)}:{node.lineno}", message) for message in messages]
    return found


def test_every_send_is_in_the_table_and_every_message_is_sent() -> None:
    """With as many fields; their types are checked by mypy."""
    names = set()
    for where, message in sends():
        name = message.elts[0]
        assert isinstance(name, ast.Constant), where
        assert name.value in FIELDS, f"{where} sends {name.value!r}"
        names.add(name.value)
        if not any(isinstance(item, ast.Starred) for item in message.elts):
            assert len(message.elts) - 1 == len(FIELDS[name.value]), where
    assert names == set(FIELDS)


def test_a_receiver_without_a_handler_is_refused() -> None:
    """As it is made, not as the message arrives."""
    with pytest.raises(AttributeError, match="_on_run"):
        wire.handlers_of(object(), wire.ToHost)
