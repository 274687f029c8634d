"""Clicks arrive once each, in another thread, whatever the cell is doing."""

from __future__ import annotations

from typing import Any

import pytest

from flyte_nb.kernel.clicks import MAX_NAME, MAX_NONCES, MESSAGE_TYPE, Command, CommandRouter
from tests.kernel.conftest import INSTALL
from tests.kernel.kernelclient import Kernel

CLICK = {"op": "cancel", "args": {"run": "r1"}, "nonce": "n1", "t": 1.0, "comm_id": "w1"}


def routed() -> tuple[CommandRouter, list[Command]]:
    """A router whose thread hop is a plain call."""
    handled: list[Command] = []
    return CommandRouter(handled.append, post=lambda function, *args: function(*args)), handled


def test_a_command_that_comes_by_both_paths_is_handled_once() -> None:
    """The second copy is recognised by its nonce; the next click has another."""
    router, handled = routed()

    assert router.accept(CLICK, via="control")
    assert router.on_widget_message(None, CLICK, [])
    router.accept({**CLICK, "nonce": "n2"}, via="comm")

    assert [
        Command("cancel", {"run": "r1"}, "n1", "w1", "control"),
        Command("cancel", {"run": "r1"}, "n2", "w1", "comm"),
    ] == handled


@pytest.mark.parametrize(
    "content",
    [
        None,
        "cancel",
        {},
        {"kind": "ready"},
        {**CLICK, "op": 1},
        {**CLICK, "op": ""},
        {**CLICK, "op": "x" * (MAX_NAME + 1)},
        {**CLICK, "nonce": None},
        {**CLICK, "nonce": "x" * (MAX_NAME + 1)},
        {**CLICK, "args": [1]},
    ],
)
def test_what_is_no_command_is_left_to_others(content: Any) -> None:
    """A widget's own messages, and nonsense, are refused without an error."""
    router, handled = routed()

    assert not router.on_widget_message(None, content, [])
    assert [] == handled


def test_a_command_without_arguments_has_none() -> None:
    """`args` may be left out."""
    router, handled = routed()
    router.accept({"op": "refresh", "nonce": "n1"}, via="comm")

    assert [Command("refresh", {}, "n1", "", "comm")] == handled


def test_nonces_are_forgotten_after_many_others() -> None:
    """Memory is bounded: the oldest go first, the recent ones stay."""
    router, handled = routed()
    for n in range(MAX_NONCES + 1):
        router.accept({**CLICK, "nonce": f"n{n}"}, via="comm")
    router.accept({**CLICK, "nonce": f"n{MAX_NONCES}"}, via="control")
    assert MAX_NONCES + 1 == len(handled)
    router.accept({**CLICK, "nonce": "n0"}, via="control")

    assert MAX_NONCES + 2 == len(handled)


def test_a_click_after_the_session_has_ended_is_dropped() -> None:
    """Posting to a closed loop raises RuntimeError, in ipykernel's control thread."""

    def closed(*_: object) -> None:
        raise RuntimeError("Event loop is closed")

    assert CommandRouter(print, post=closed).accept(CLICK, via="control")


def test_without_a_kernel_there_is_no_control_channel() -> None:
    """In a terminal only widget messages could arrive."""
    router, _ = routed()

    assert not router.install(object())
    router.uninstall()


ROUTER = f"""{INSTALL}
from concurrent.futures import ThreadPoolExecutor
from flyte_nb.kernel.clicks import CommandRouter
pool = ThreadPoolExecutor(1); handled = []; arrived = threading.Event()
def handle(command):
    handled.append((command.op, command.via, threading.current_thread() is not threading.main_thread()))
    arrived.set()
router = CommandRouter(handle, pool.submit)
(router.install(get_ipython()), router.install(get_ipython()))
"""


@pytest.mark.kernel
@pytest.mark.parametrize(
    "wait",
    ["arrived.wait()", "await asyncio.to_thread(arrived.wait)", "while not arrived.is_set(): pass"],
    ids=["blocked", "awaiting", "computing"],
)
def test_a_command_arrives_while_a_cell_runs(kernel: Kernel, wait: str) -> None:
    """The cell itself waits for the click: without the control channel it would never end."""
    kernel.run(ROUTER).ok()
    cell = kernel.begin(f"print('ready')\n{wait}\nhandled")
    cell.wait_for(lambda: "ready" in cell.stdout)
    kernel.control(MESSAGE_TYPE, CLICK)

    assert "[('cancel', 'control', True)]" == cell.ok().result


@pytest.mark.kernel
def test_uninstall_takes_the_handler_off_and_gives_back_the_one_before(kernel: Kernel) -> None:
    """Another extension's handler of the same type is respected."""
    kernel.run("handlers = get_ipython().kernel.control_handlers; before = dict(handlers)").ok()
    kernel.run(f"{ROUTER}\nrouter.uninstall(); router.uninstall(); assert handlers == before").ok()
    kernel.run("handlers['flyte_ui'] = print; router.install(get_ipython()); assert handlers['flyte_ui'] != print").ok()

    assert "True" == kernel.run("router.uninstall(); handlers['flyte_ui'] is print").ok().result
