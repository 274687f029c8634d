"""Ctrl-C in terminal IPython, which has no kernel."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.kernel.conftest import INSTALL
from tests.kernel.kernelclient import PATIENCE, kernel_environment

pytestmark = pytest.mark.kernel


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """IPython in a pseudo-terminal, with the cures installed by its first cell."""
    (tmp_path / "setup.py").write_text(INSTALL)
    arguments = [
        "-m",
        "IPython",
        "--simple-prompt",
        "--no-banner",
        "--colors=nocolor",
        "--HistoryManager.enabled=False",
    ]
    environment = {**kernel_environment(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb", "HOME": str(tmp_path)}
    child = pexpect.spawn(
        sys.executable, arguments, env=environment, cwd=str(tmp_path), timeout=PATIENCE, encoding="utf-8"
    )
    try:
        child.expect_exact("In [1]: ")
        child.sendline("%run -i setup.py")
        child.expect_exact("In [2]: ")
        yield child
    finally:
        child.close(force=True)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("asyncio.get_running_loop().call_soon(print, 'rea' + 'dy'); await asyncio.Event().wait()", "CancelledError"),
        ("await asyncio.sleep(0); print('rea' + 'dy'); threading.Event().wait()", "KeyboardInterrupt"),
        ("print('rea' + 'dy'); threading.Event().wait()", "KeyboardInterrupt"),
    ],
    ids=["awaiting", "sync after await", "sync"],
)
def test_ctrl_c_ends_the_cell_and_nothing_of_it_goes_on(terminal: pexpect.spawn, code: str, error: str) -> None:
    """Stock IPython leaves an awaiting cell behind, which goes on at the next await."""
    terminal.sendline(f"{code}; left = 'over'")
    terminal.expect_exact("ready")
    terminal.sendintr()
    terminal.expect_exact(error)
    terminal.expect_exact("In [3]: ")
    terminal.sendline("await asyncio.sleep(0); 'left' in globals(), len(asyncio.all_tasks())")
    terminal.expect_exact("(False, 1)")


def test_a_second_ctrl_c_leaves_a_cell_that_resists(terminal: pexpect.spawn) -> None:
    """A cell that swallows its cancellation can't keep the prompt."""
    terminal.sendline(
        "async def stubborn():\n    while True:\n        try: asyncio.get_running_loop().call_soon(print, 'rea' + 'dy'); await asyncio.Event().wait()\n        except asyncio.CancelledError: pass\n"
    )
    terminal.expect_exact("In [3]: ")
    terminal.sendline("await stubborn()")
    terminal.expect_exact("ready")
    terminal.sendintr()
    terminal.expect_exact("ready")
    terminal.sendintr()
    terminal.expect_exact("KeyboardInterrupt")
    terminal.expect_exact("In [4]: ")
    terminal.sendline("6 * 7")
    terminal.expect_exact("42")


def test_output_falls_back_to_plain_text(terminal: pexpect.spawn) -> None:
    """What is displayed is printed; updates, which a terminal can't show, are left out."""
    terminal.sendline("output.display(cells.current, {'text/plain': 'sh' + 'own', 'text/html': ''}, display_id='d')")
    terminal.expect_exact("shown")
    terminal.expect_exact("In [3]: ")
    terminal.sendline("output.update(None, {'text/plain': 'upd' + 'ated'}, display_id='d'); print('a li' + 'ne')")
    terminal.expect_exact("a line")

    assert "updated" not in terminal.before
