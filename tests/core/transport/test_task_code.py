"""What is said of a task that cannot travel: the variable at fault, who uses it, and what to do instead."""

from __future__ import annotations

import importlib
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flyte_nb as flyte
from flyte_nb.core.transport.blobs import Blobs
from flyte_nb.core.transport.code_versions import CodeVersions
from flyte_nb.core.transport.payload import UnpicklableError, dumps
from flyte_nb.core.transport.task_code import dump_function
from flyte_nb.core.values.by_value.modules import register_user_modules

env = flyte.TaskEnvironment("travel")

warehouse = sqlite3.connect(":memory:")
nested = {"paths": ["x"], "bases": [None, sqlite3.connect(":memory:")]}
plug = socket.socket()
stream = (n for n in range(3))
opened = open(__file__, "rb")  # noqa: SIM115, PTH123 - it is to stay open


class Holder:
    """With a connection in an attribute."""

    base = sqlite3.connect(":memory:")

    def ask(self) -> Any:
        """Use it."""
        return self.base


class Client:
    """With a connection of its own."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")


client = Client()


def query() -> Any:
    """Use the connection."""
    return warehouse.execute("select 1").fetchone()


def deeper() -> Any:
    """Use it, two steps away."""
    return query()


def with_default(base: Any = warehouse) -> Any:
    """Use it as a default."""
    return base


def around() -> Callable[[], Any]:
    """A function with the connection in its closure."""
    inside = sqlite3.connect(":memory:")

    def use() -> Any:
        return inside

    return use


closed = around()


class InteractiveShell:
    """Stands for IPython's."""

    lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle 'InteractiveShell' object")

    def get(self) -> Any:
        """As ``get_ipython``."""
        return self


get_ipython = InteractiveShell().get
shell = InteractiveShell()


def uses_global() -> Any:
    return warehouse


def uses_helper() -> Any:
    return query()


def uses_helpers_helper() -> Any:
    return deeper()


def uses_container() -> Any:
    return nested


def uses_attribute() -> Any:
    return client


def uses_class() -> Any:
    return Holder().ask()


def uses_default() -> Any:
    return with_default()


def uses_closure() -> Any:
    return closed()


def uses_socket() -> Any:
    return plug


def uses_generator() -> Any:
    return list(stream)


def uses_file() -> Any:
    return opened.read()


def uses_nested_function() -> Any:
    def inner() -> Any:
        return warehouse

    return inner()


def uses_shell() -> Any:
    return get_ipython().system("ls")


def uses_shell_object() -> Any:
    return shell


CASES: dict[Callable[..., Any], list[str]] = {
    uses_global: ["the global 'warehouse'", "uses_global()", "sqlite3.Connection"],
    uses_helper: ["the global 'warehouse'", "query()"],
    uses_helpers_helper: ["the global 'warehouse'", "query()"],
    uses_container: ["the global 'nested'", "['bases']", "[1]", "sqlite3.Connection"],
    uses_attribute: ["the global 'client'", ".connection of Client"],
    uses_class: ["the class attribute 'base'", "class Holder"],
    uses_default: ["the default of the parameter 'base'", "with_default()"],
    uses_closure: ["the closure variable 'inside'", "use()"],
    uses_socket: ["the global 'plug'", "socket"],
    uses_generator: ["the global 'stream'", "generator"],
    uses_file: ["the global 'opened'", "BufferedReader"],
    uses_nested_function: ["the global 'warehouse'", "uses_nested_function()"],
    uses_shell: ["get_ipython()", "`!command`", "subprocess.run", "uses_shell()"],
    uses_shell_object: ["get_ipython()", "subprocess.run", "uses_shell_object()"],
}


@pytest.fixture(scope="module", autouse=True)
def closed_in_the_end() -> Iterator[None]:
    """The file and the socket: Python complains of those that are open at its end."""
    yield
    opened.close()
    plug.close()


@pytest.fixture(params=["at a call", "alone"])
def send(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Both ways in which a task is pickled."""
    return CodeVersions(Blobs()).of if request.param == "at a call" else dump_function


@pytest.mark.parametrize("body", CASES, ids=lambda body: body.__name__)
def test_the_variable_at_fault_is_named(send: Callable[[Any], Any], body: Callable[..., Any]) -> None:
    """Wherever it is, with its user and a remedy."""
    with pytest.raises(UnpicklableError) as caught:
        send(env.task(body))

    text = str(caught.value)
    assert [] == [part for part in [f"task travel.{body.__name__}", *CASES[body]] if part not in text], text
    assert "task, or pass" in text or "subprocess" in text


def test_what_cannot_be_pickled_is_named_though_its_module_has_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where a program reads its modules anew."""
    (tmp_path / "gone_since.py").write_text("class Held:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    held = importlib.import_module("gone_since").Held()
    held.lock = threading.Lock()
    register_user_modules()
    monkeypatch.delitem(sys.modules, "gone_since")
    with pytest.raises(UnpicklableError, match="cannot pickle"):
        dumps(held)
