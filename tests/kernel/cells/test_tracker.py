"""Which cell is running, and output that lands under the cell it belongs to."""

from __future__ import annotations

import pytest

from flyte_nb.kernel.cells.tracker import MAX_TITLE, title_of
from tests.kernel.conftest import INSTALL
from tests.kernel.kernelclient import Kernel


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("", ""),
        ("x = 1", "x = 1"),
        ("# Train the model\nx = 1", "Train the model"),
        ("# %% Train the model\nx = 1", "Train the model"),
        ("#\n\nx = 1", "x = 1"),
        ("%%time\nimport os\nfrom a import b\n\nawait main()", "await main()"),
        ("%%flyte recover\n\n# Train the model\nx = 1", "Train the model"),
        ("import os", "import os"),
        ("@env.task\nasync def f():\n    return 1\n\nresult = await f()", "result = await f()"),
        ("def f(\n    x,\n):\n    return x\nf(1)", "f(1)"),
        ("@env.task\nasync def f(): ...\n\ntry:\n    await f(1)\nexcept ValueError:\n    pass", "await f(1)"),
        ("try:  # again\n    # and again\n\n    try:\n        f(1)\n    finally: pass\nfinally: pass", "f(1)"),
        ("try:", "try:"),
        ("#", "#"),
        ("x" * 200, "x" * (MAX_TITLE - 1) + "…"),
    ],
)
def test_title_is_the_line_that_names_the_cell(source: str, title: str) -> None:
    """A comment at the top, else the first line that does something, else the first line."""
    assert title == title_of(source)


pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["sync", "async"])
def test_current_cell_is_known_while_it_runs(shared_kernel: Kernel, prefix: str) -> None:
    """Its id, prompt number, title and parent header are those of the front end."""
    code = f"# a title\n{prefix}cell = cells.current; (cell.cell_id, cell.prompt, cell.title, cell.parent['msg_id'])"
    cell = shared_kernel.run(code, cell_id="cell-7").ok()

    assert cell.reply
    assert repr(("cell-7", cell.reply["execution_count"], "a title", cell.msg_id)) == cell.result


def test_the_same_cell_run_twice_is_two_executions(shared_kernel: Kernel) -> None:
    """The serial number tells them apart."""
    first, second = (int(str(shared_kernel.run("cells.current.serial").ok().result)) for _ in range(2))

    assert first < second


@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["sync", "async"])
def test_what_a_cell_starts_knows_its_cell_after_the_cell_has_ended(shared_kernel: Kernel, prefix: str) -> None:
    """Tasks and threads started with the context belong to their cell; the next cell is another."""
    shared_kernel.run(
        f"{prefix}go = asyncio.Event(); mine = cells.current\n"
        "async def late():\n    await go.wait()\n    return cells.owner() is mine, await asyncio.to_thread(cells.owner) is mine\n"
        "task = asyncio.create_task(late())"
    ).ok()
    after = shared_kernel.run(
        "other = cells.owner(); go.set(); (await task, other is not mine, CURRENT_CELL.get() is other)"
    ).ok()

    assert "((True, True), True, True)" == after.result


@pytest.mark.parametrize("prefix", ["", "await asyncio.sleep(0)\n"], ids=["sync", "async"])
def test_no_cell_is_current_between_cells(shared_kernel: Kernel, prefix: str) -> None:
    """A callback that runs when the cell is over sees none, by thread or by context."""
    shared_kernel.run(
        "seen = {}\n"
        "def look(result):\n"
        "    get_ipython().events.unregister('post_run_cell', look)\n"
        "    seen['post'] = (cells.current, CURRENT_CELL.get())\n"
    ).ok()
    shared_kernel.run(f"{prefix}get_ipython().events.register('post_run_cell', look)").ok()

    assert "{'post': (None, None)}" == shared_kernel.run("seen").ok().result


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("1", "NoneType"),
        ("await asyncio.sleep(0)", "NoneType"),
        ("1 / 0", "ZeroDivisionError"),
        ("await asyncio.sleep(0); 1 / 0", "ZeroDivisionError"),
        ("1 +", "SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("await asyncio.sleep(0); raise asyncio.CancelledError", "CancelledError"),
    ],
)
def test_listeners_hear_of_start_and_end_once_each(shared_kernel: Kernel, code: str, ended: str) -> None:
    """However the cell ends; with its error."""
    shared_kernel.run(
        "heard = []\n"
        "off = [cells.on_start(lambda cell: heard.append(('start', cell.title))),\n"
        "       cells.on_end(lambda cell, error: heard.append(('end', cell.title, type(error).__name__)))]"
    ).ok()
    shared_kernel.run(f"# tested\n{code}")
    heard = shared_kernel.run("# last\n[remove() for remove in off]; print(heard[1:])").ok()

    assert f"[('start', 'tested'), ('end', 'tested', '{ended}'), ('start', 'last')]" == heard.stdout.strip()


def test_a_cell_within_a_cell_gives_the_outer_one_back(shared_kernel: Kernel) -> None:
    """`run_cell` called by a cell makes the inner one current, for as long as it runs."""
    cell = shared_kernel.run(
        "# outer\nimport sys\nget_ipython().run_cell('# inner\\nprint(cells.current.title, cells.owner().title)')\n"
        "print(cells.current.title, cells.owner().title)"
    ).ok()

    assert ["inner inner", "outer outer"] == cell.stdout.split("\n")[:2]


def test_an_empty_cell_changes_nothing(shared_kernel: Kernel) -> None:
    """IPython reports its end without its start."""
    shared_kernel.run("   ")

    assert "'cells.current.title'" == shared_kernel.run("cells.current.title").ok().result


def test_output_lands_under_the_given_cell_from_any_thread_and_at_any_time(shared_kernel: Kernel) -> None:
    """Display and update sent during another cell, from a raw thread, go where they belong."""
    owner = shared_kernel.run("mine = cells.current").ok()
    later = shared_kernel.run(
        "def send():\n"
        "    output.display(mine, {'text/plain': 'first', 'text/html': '<b>first</b>'}, display_id='d1')\n"
        "    output.update(mine, {'text/plain': 'second'}, display_id='d1')\n"
        "thread = threading.Thread(target=send); thread.start(); thread.join()"
    ).ok()
    owner.wait_for(lambda: bool(owner.of("update_display_data")))

    (shown,) = owner.of("display_data")
    (updated,) = owner.of("update_display_data")
    assert {"text/plain": "first", "text/html": "<b>first</b>"} == shown.content["data"]
    assert {"text/plain": "second"} == updated.content["data"]
    assert {"display_id": "d1"} == shown.content["transient"] == updated.content["transient"]
    assert [] == later.of("display_data", "update_display_data")


def test_what_the_cell_printed_comes_before_what_is_displayed(shared_kernel: Kernel) -> None:
    """Printed text waits in a buffer; displaying from the cell's thread sends it first."""
    cell = shared_kernel.run(
        # One write: `print` makes two, and the buffer may be sent between them.
        "print('before', end=''); output.display(cells.current, {'text/plain': 'shown'}, display_id='d2')"
    ).ok()

    assert ["stream", "display_data"] == [m.kind for m in cell.of("stream", "display_data")]


def test_capture_magic_collects_what_is_displayed(shared_kernel: Kernel) -> None:
    """`%%capture` means: not under the cell."""
    cell = shared_kernel.run(
        "%%capture got\noutput.display(cells.current, {'text/plain': 'shown'}, display_id='d3')"
    ).ok()

    assert [] == cell.of("display_data")
    assert "1" == shared_kernel.run("len(got.outputs)").ok().result


def test_the_cell_that_installs_it_is_tracked(kernel: Kernel) -> None:
    """`%load_ext` and the first await may be in one cell, whose end is reported like any other's."""
    installing = kernel.run(
        f"# loads it\n{INSTALL}\nheard = []\ncells.on_end(lambda c, e: heard.append(c.title))\nprint(cells.current)"
    )
    assert "title='loads it'" in installing.stdout
    heard = kernel.run("heard, cells.current.title").ok()

    assert "(['loads it'], 'heard, cells.current.title')" == heard.result


def test_it_can_be_installed_before_the_first_cell() -> None:
    """A kernel that loads the extension at its start has no cell yet."""
    extension = (
        "from flyte_nb.kernel.cells.tracker import CellTracker\n"
        "from flyte_nb.kernel.interrupts.interrupts import Interrupts\n"
        "def load_ipython_extension(ip):\n"
        "    cells = CellTracker(ip); cells.install(); Interrupts(cells).install()\n"
        "    ip.user_ns.update(cells=cells, before=cells.current)\n"
    )
    with Kernel.start("--ext", "early", files={"early.py": extension}) as early:
        assert "(None, '(before, cells.current.title)')" == early.run("(before, cells.current.title)").ok().result
        cell = early.begin(
            "import asyncio; asyncio.get_running_loop().call_soon(print, 'ready'); await asyncio.Event().wait()"
        )
        cell.wait_for(lambda: "ready" in cell.stdout)
        early.interrupt()
        assert "CancelledError" == cell.wait().error.name
