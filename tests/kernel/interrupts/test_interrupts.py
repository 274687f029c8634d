"""The stop button, in a real kernel: it ends whatever a cell is doing, and the kernel lives on."""

from __future__ import annotations

import pytest

from tests.kernel.conftest import INSTALL
from tests.kernel.kernelclient import Execution, Kernel

pytestmark = pytest.mark.kernel

FOREVER = "await asyncio.Event().wait()"

#: Says "ready" once the cell is suspended: a stop pressed before that would find it computing.
READY = "asyncio.get_running_loop().call_soon(print, 'ready')"


def stopped(kernel: Kernel, code: str, *, stops: int = 1) -> Execution:
    """Run a cell that prints "ready", press stop (again after every further "ready"), and wait for its end."""
    cell = kernel.begin(code)
    for n in range(1, stops + 1):
        cell.wait_for(lambda wanted=n: cell.stdout.count("ready") >= wanted)  # type: ignore[misc]
        kernel.interrupt()
    return cell.wait()


def assert_alive(kernel: Kernel) -> None:
    assert kernel.run("await asyncio.sleep(0); 6 * 7").ok().result == "42"


def test_stop_ends_a_cell_that_awaits_while_the_loop_is_idle(shared_kernel: Kernel) -> None:
    """Nothing else wakes the loop: without the wake-up descriptor this cell would never end."""
    cell = stopped(shared_kernel, f"{READY}; {FOREVER}")

    assert "CancelledError" == cell.error.name
    assert_alive(shared_kernel)


def test_stop_interrupts_synchronous_code_after_an_await(shared_kernel: Kernel) -> None:
    """A cell that awaits is still stopped while it computes."""
    cell = stopped(shared_kernel, "await asyncio.sleep(0)\nprint('ready')\nwhile True: pass")

    assert "KeyboardInterrupt" == cell.error.name
    assert_alive(shared_kernel)


def test_stop_interrupts_a_blocking_call_after_an_await(shared_kernel: Kernel) -> None:
    """So is one that blocks in a lock."""
    cell = stopped(shared_kernel, "await asyncio.sleep(0)\nprint('ready')\nthreading.Event().wait()")

    assert "KeyboardInterrupt" == cell.error.name
    assert_alive(shared_kernel)


def test_a_cell_may_catch_the_interrupt_of_its_synchronous_code(shared_kernel: Kernel) -> None:
    """`except KeyboardInterrupt` works as in a script."""
    code = "await asyncio.sleep(0)\ntry:\n    print('ready')\n    while True: pass\nexcept KeyboardInterrupt:\n    print('caught')"
    cell = stopped(shared_kernel, code)

    assert "ok" == cell.status
    assert "caught" in cell.stdout


def test_stop_interrupts_synchronous_code_in_a_child_task(shared_kernel: Kernel) -> None:
    """The child is cancelled where it computes, the cell with it, and the kernel's loop survives."""
    code = "async def spin():\n    print('ready')\n    while True: pass\nawait asyncio.gather(spin(), asyncio.sleep(0))"
    cell = stopped(shared_kernel, code)

    assert "CancelledError" == cell.error.name
    assert_alive(shared_kernel)


def test_stop_interrupts_synchronous_code_in_a_callback(shared_kernel: Kernel) -> None:
    """`loop.call_soon(spin)` is user code as well."""
    code = (
        f"def spin():\n    print('ready')\n    while True: pass\nasyncio.get_running_loop().call_soon(spin)\n{FOREVER}"
    )
    cell = stopped(shared_kernel, code)

    assert "CancelledError" == cell.error.name
    assert_alive(shared_kernel)


def test_stop_reaches_a_background_task_of_an_earlier_cell(shared_kernel: Kernel) -> None:
    """A task left behind that blocks the kernel can be stopped from the next cell."""
    shared_kernel.run(
        "go = asyncio.Event()\n"
        "async def spin():\n    await go.wait()\n    print('spinning')\n    while True: pass\n"
        "left = asyncio.create_task(spin())\nawait asyncio.sleep(0)"
    ).ok()
    cell = stopped(shared_kernel, f"print('ready'); go.set(); {FOREVER}")
    if cell.status == "ok":
        pytest.fail(f"{cell!r}")

    assert "True" == shared_kernel.run("left.cancel(); await asyncio.sleep(0); left.cancelled()").ok().result


def test_a_second_stop_ends_a_cell_that_caught_the_first(shared_kernel: Kernel) -> None:
    """ipykernel's own handler works once a cell; ours works as often as the button is pressed."""
    again = f"try:\n    {READY}; {FOREVER}\nexcept asyncio.CancelledError:\n    pass\n"
    cell = stopped(shared_kernel, f"{again}{again}{READY}; {FOREVER}", stops=3)

    # One that comes 0.3 s after another, as from a slow machine, is a KeyboardInterrupt.
    assert cell.error.name in {"CancelledError", "KeyboardInterrupt"}
    assert_alive(shared_kernel)


def test_stop_in_a_sync_cell_is_a_keyboard_interrupt(shared_kernel: Kernel) -> None:
    """Cells without await behave as ever."""
    cell = stopped(shared_kernel, "print('ready'); time.sleep(1e6)")

    assert "KeyboardInterrupt" == cell.error.name
    assert_alive(shared_kernel)


def test_stop_never_comes_between_two_lines_of_a_loop(shared_kernel: Kernel) -> None:
    """Of a loop that a sync cell runs: a step that is taken from its queue would be lost, and waited for after the stop."""
    cell = shared_kernel.run(
        "import signal, sys\nfrom flyte_nb.kernel.debugger.prompt import run_private\n"
        "def stop():\n"
        "    try:\n"
        "        signal.getsignal(signal.SIGINT)(signal.SIGINT, sys._getframe(2))\n"  # as if it came in the loop's own code
        "    except KeyboardInterrupt:\n"
        "        print('lost')\n"
        "async def waits():\n"
        "    asyncio.get_running_loop().call_soon(stop)\n"
        "    await asyncio.sleep(600)\n"
        "run_private(waits())"
    )

    assert "KeyboardInterrupt" == cell.error.name
    assert "lost" not in cell.stdout
    assert_alive(shared_kernel)


def test_stop_while_a_cell_asks_for_input_is_a_keyboard_interrupt(shared_kernel: Kernel) -> None:
    """A prompt can be left with the stop button, in an awaiting cell too."""
    cell = shared_kernel.begin("await asyncio.sleep(0); input('name? ')", inputs=["never sent"])
    cell.inputs.clear()
    with pytest.raises(AssertionError, match="name"):
        cell.wait_for(lambda: cell.prompts)
    shared_kernel.interrupt()

    assert "KeyboardInterrupt" == cell.wait().error.name
    assert_alive(shared_kernel)


@pytest.mark.parametrize(
    "code",
    [
        "tasks = [asyncio.create_task(asyncio.sleep(1e6))]; print('ready'); await asyncio.wait(tasks)",
        "tasks = [asyncio.create_task(asyncio.sleep(1e6))]; print('ready')\nfor t in asyncio.as_completed(tasks): await t",
        f"tasks = [asyncio.create_task(asyncio.sleep(1e6))]; {READY}; {FOREVER}",
        "tasks = []; print('ready'); time.sleep(1e6)",
    ],
    ids=["wait", "as_completed", "create_task", "sync"],
)
def test_listeners_learn_of_an_interrupt_in_their_own_thread(shared_kernel: Kernel, code: str) -> None:
    """asyncio leaves such tasks running: whoever listens can cancel what they stand for, and knows for which cell."""
    shared_kernel.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "pool = ThreadPoolExecutor(1); heard = []\n"
        "remove = interrupts.on_interrupt(\n"
        "    lambda cell: heard.append((cell.title, threading.current_thread() is not threading.main_thread())),\n"
        "    post=pool.submit)"
    ).ok()
    stopped(shared_kernel, f"# a title\n{code}")
    heard = shared_kernel.run("remove(); pool.shutdown(); [t.cancel() for t in tasks]; heard").ok()

    assert "[('a title', True)]" == heard.result


def test_a_listener_whose_loop_is_closed_does_not_hinder_the_stop(shared_kernel: Kernel) -> None:
    """Posting to a closed loop raises RuntimeError, in the signal handler of all places."""
    shared_kernel.run(
        "dead = asyncio.new_event_loop(); dead.close()\nremove = interrupts.on_interrupt(print, post=dead.call_soon_threadsafe)"
    ).ok()
    cell = stopped(shared_kernel, f"{READY}; {FOREVER}")
    shared_kernel.run("remove()").ok()

    assert "CancelledError" == cell.error.name


def test_signal_handlers_of_the_users_own_loop_keep_working(kernel: Kernel) -> None:
    """`loop.add_signal_handler` needs the wake-up descriptor itself: it keeps it, and the stop button works through it."""
    kernel.run(INSTALL).ok()
    code = "asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, 'usr1'); await asyncio.sleep(0)"
    handler = kernel.run(code).ok()
    cell = kernel.begin(f"import os; os.kill(os.getpid(), signal.SIGUSR1); {FOREVER}")
    cell.wait_for(lambda: "usr1" in handler.stdout)
    kernel.interrupt()

    assert "CancelledError" == cell.wait().error.name


def test_the_cell_that_loads_it_is_guarded_too(kernel: Kernel) -> None:
    """Loading the extension and awaiting in one and the same cell is what people do."""
    cell = stopped(kernel, f"{INSTALL}\n{READY}; {FOREVER}")

    assert "CancelledError" == cell.error.name
    assert_alive(kernel)


def test_uninstall_puts_everything_back(kernel: Kernel) -> None:
    """Handlers and descriptors are as before, in a sync and in an async cell, and both calls may be repeated."""
    kernel.run("import signal, asyncio, os")
    state = "signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1), sorted(os.listdir('/dev/fd'))"
    sync_before = kernel.run(state).ok().result
    async_before = kernel.run("await asyncio.sleep(0); signal.getsignal(signal.SIGINT).__qualname__").ok().result
    kernel.run(f"{INSTALL}\ninterrupts.install(); await asyncio.sleep(0)").ok()
    assert "True" == kernel.run("'CellInterrupt' in repr(signal.getsignal(signal.SIGINT))").ok().result
    kernel.run("interrupts.uninstall(); interrupts.uninstall(); cells.uninstall(); cells.uninstall()").ok()

    assert sync_before == kernel.run(state).ok().result
    assert (
        async_before == kernel.run("await asyncio.sleep(0); signal.getsignal(signal.SIGINT).__qualname__").ok().result
    )


def test_it_can_be_installed_again_after_uninstall(kernel: Kernel) -> None:
    """As `%reload_ext` does."""
    kernel.run(INSTALL).ok()
    kernel.run("interrupts.uninstall(); cells.uninstall(); cells.install(); interrupts.install()").ok()
    cell = stopped(kernel, f"{READY}; {FOREVER}")

    assert "CancelledError" == cell.error.name


def test_stops_at_any_moment_leave_the_kernel_alive(shared_kernel: Kernel) -> None:
    """Signals that arrive while a cell starts, runs, ends or is being reported never end the kernel's loop."""
    code = "for _ in range(50):\n    await asyncio.sleep(0)\n    sum(range(2000))"
    for stops in range(1, 16):
        cell = shared_kernel.begin(code)
        cell.wait_for(lambda cell=cell: cell.messages)  # type: ignore[misc]
        for _ in range(stops):
            shared_kernel.interrupt()
            shared_kernel.read()
        cell.wait()
        assert cell.status in ("ok", "error")

    assert_alive(shared_kernel)


def test_a_stop_pressed_while_a_cell_ends_does_not_lose_its_reply(shared_kernel: Kernel) -> None:
    """Stock ipykernel drops the reply then, and the cell shows [*] for ever."""
    shared_kernel.run(
        "def press(result): import os; os.kill(os.getpid(), signal.SIGINT)\n"
        "kernel = get_ipython().kernel; finish = kernel.finish_metadata\n"
        "def finish_metadata(*args): press(None); return finish(*args)\n"
        "kernel.finish_metadata = finish_metadata"
    ).ok()
    sync_cell = shared_kernel.run("1 + 1")
    async_cell = shared_kernel.run("await asyncio.sleep(0); 1 + 2")
    shared_kernel.run("del kernel.finish_metadata").ok()

    assert ("2", "3") == (sync_cell.result, async_cell.result)
    assert ("ok", "ok") == (sync_cell.status, async_cell.status)


def test_stop_ends_a_long_event_callback(shared_kernel: Kernel) -> None:
    """What runs around a cell (matplotlib draws there) can still be interrupted."""
    cell = stopped(
        shared_kernel,
        "def slow(result):\n    get_ipython().events.unregister('post_run_cell', slow)\n    print('ready')\n    time.sleep(1e6)\n"
        "get_ipython().events.register('post_run_cell', slow)",
    )

    assert "ok" == cell.status
    assert_alive(shared_kernel)


def test_stop_ends_a_long_widget_callback(shared_kernel: Kernel) -> None:
    """So can a callback that a click has started, while no cell runs."""
    made = shared_kernel.run(
        "from ipykernel.comm import Comm\nwith_comm = Comm(target_name='test')\n"
        "clicked = threading.Event(); ended = []\n"
        "def slow(message):\n    clicked.set()\n    try: time.sleep(1e6)\n    finally: ended.append(True)\n"
        "with_comm.on_msg(slow)\n"
        "threading.Thread(target=lambda: (clicked.wait(), print('ready'))).start()\nwith_comm.comm_id"
    ).ok()
    assert made.result
    shared_kernel.comm(made.result.strip("'"), {})
    made.wait_for(lambda: "ready" in made.stdout + "".join(m.content.get("text", "") for m in shared_kernel.strays))
    shared_kernel.interrupt()

    assert "[True]" == shared_kernel.run("ended").ok().result
