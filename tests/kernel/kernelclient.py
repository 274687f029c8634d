"""Drive a real Jupyter kernel from a test: run cells, watch their output arrive, interrupt, answer prompts, kill.

Everything is synchronous, in the test's own thread: messages are read while a test waits for something, and filed under the
execution that caused them. Runs in: tests.

    with Kernel.start() as kernel:
        cell = kernel.begin("print('hello'); await asyncio.sleep(30)")
        cell.wait_for(lambda: "hello" in cell.stdout)
        kernel.interrupt()
        assert cell.wait().error.name == "CancelledError"
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import nbformat
import psutil
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
#: Code whose value is the addresses of all workers: the same as long as none of their processes was replaced.
WORKERS = "from flyte_nb.kernel.session import Session\nsorted(Session.current.engine.network.roster)"

#: Seconds a test waits for anything, unless it says otherwise: far more than any of it takes on a busy machine.
PATIENCE = 60.0

#: The interpreter that kernels run in: ``KERNEL_PYTHON=/other/venv/bin/python pytest tests/kernel`` tests other versions.
PYTHON = os.environ.get("KERNEL_PYTHON", sys.executable)

#: Seconds that a kernel gets to shut down, before it is killed: what a Jupyter server gives it.
GRACE = 5.0


class Message(NamedTuple):
    """One message from the kernel."""

    #: "stream", "display_data", "update_display_data", "execute_result", "error", "status", "comm_open", ...
    kind: str
    content: dict[str, Any]
    #: `time.monotonic()` when the test read it.
    at: float


class CellError(NamedTuple):
    """An error as a front end sees it."""

    name: str
    value: str
    traceback: str


@dataclass(eq=False)
class Execution:
    """One cell that was sent, and all that came back for it, also after it ended."""

    kernel: Kernel
    code: str
    msg_id: str
    sent_at: float
    inputs: list[str] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    reply: dict[str, Any] | None = None
    replied_at: float = 0.0
    idle_at: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the reply and the idle status have both arrived: nothing of the cell itself follows."""
        return self.reply is not None and self.idle_at > 0

    @property
    def seconds(self) -> float:
        """From sending to the reply."""
        assert self.reply is not None, f"still running: {self.code!r}"
        return self.replied_at - self.sent_at

    @property
    def status(self) -> str:
        """As in the reply: "ok", "error" or "aborted"; "running" until then."""
        return str((self.reply or {}).get("status", "running"))

    @property
    def stdout(self) -> str:
        return "".join(m.content["text"] for m in self.of("stream") if m.content["name"] == "stdout")

    @property
    def stderr(self) -> str:
        return "".join(m.content["text"] for m in self.of("stream") if m.content["name"] == "stderr")

    @property
    def result(self) -> str | None:
        """The text of ``Out[n]``, or None."""
        results = self.of("execute_result")
        return results[-1].content["data"]["text/plain"] if results else None

    @property
    def views(self) -> str:
        """What the views under the cell show, as text; one after another as they changed."""
        shown = self.of("display_data", "update_display_data")
        return "\n".join(message.content["data"].get("text/plain", "") for message in shown)

    @property
    def error(self) -> CellError:
        """The error that the cell showed; its fields are empty if none."""
        errors = self.of("error")
        if not errors:
            return CellError("", "", "")
        content = errors[-1].content
        return CellError(content["ename"], content["evalue"], "\n".join(content["traceback"]))

    def of(self, *kinds: str) -> list[Message]:
        """The messages of these kinds, in order of arrival."""
        return [m for m in self.messages if m.kind in kinds]

    def wait(self, timeout: float = PATIENCE) -> Self:
        """Until the cell has ended."""
        return self.wait_for(lambda: self.done, timeout)

    def wait_for(self, condition: Callable[[], object], timeout: float = PATIENCE) -> Self:
        """Until ``condition()`` holds; it is asked again after every message."""
        self.kernel.wait_for(condition, timeout, what=f"{self!r}")
        return self

    def ok(self) -> Self:
        """Wait, and demand that the cell succeeded."""
        self.wait()
        assert self.status == "ok", f"{self!r}\n{self.error.traceback or self.reply}"
        return self

    def __repr__(self) -> str:
        return f"<{self.status} {self.code!r} stdout={self.stdout[-500:]!r} stderr={self.stderr[-500:]!r}>"


class Kernel:
    """A kernel process and the connection to it. Use `start` or `running`."""

    def __init__(self, manager: KernelManager, home: Path) -> None:
        self.manager = manager
        self.home = home
        self._executions: dict[str, Execution] = {}
        self._strays: list[Message] = []
        self._client: Any = None

    @classmethod
    def start(
        cls,
        *arguments: str,
        python: str = PYTHON,
        env: Mapping[str, str] | None = None,
        argv: Sequence[str] | None = None,
        files: Mapping[str, str] | None = None,
    ) -> Kernel:
        """Start a kernel on this checkout and wait until it answers.

        Args:
            *arguments: For the kernel's command line, as ``"--ext", "flyte_nb"``.
            python: The interpreter, to test other environments.
            env: Added to the environment.
            argv: The whole command line of a kernelspec, instead of ipykernel's.
            files: Text files to put into its working folder, which is also on its path.
        """
        home = Path(tempfile.mkdtemp(prefix="flyte-nb-kernel-"))
        for name, text in (files or {}).items():
            (home / name).write_text(text, encoding="utf-8")
        launch = list(argv or [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
        manager = KernelManager(connection_file=str(home / "connection.json"))
        manager._kernel_spec = KernelSpec(
            argv=launch, display_name="test", language="python"
        )  # There is no public way.
        kernel = cls(manager, home)
        try:
            manager.start_kernel(
                extra_arguments=["--HistoryManager.enabled=False", *arguments],
                env={**os.environ, **kernel_environment(home), **(env or {})},
                cwd=str(home),
            )
            kernel._connect()
        except BaseException:
            kernel.stop()
            raise
        return kernel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The kernel's process id."""
        return int(self.manager.provisioner.pid)  # type: ignore[union-attr]

    # --- cells ---------------------------------------------------------------------------------------------------------

    def run(
        self, code: str, *, timeout: float = PATIENCE, inputs: Sequence[str] = (), cell_id: str | None = None
    ) -> Execution:
        """Run a cell to its end. See `begin`."""
        return self.begin(code, inputs=inputs, cell_id=cell_id).wait(timeout)

    def begin(self, code: str, *, inputs: Sequence[str] = (), cell_id: str | None = None) -> Execution:
        """Send a cell and return at once.

        Args:
            code: Its source.
            inputs: Answers to what the cell asks on stdin (`input`, pdb), in order; without them a prompt fails the test.
            cell_id: The id that a notebook front end would send along.
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": False,
        }
        metadata = {"cellId": cell_id} if cell_id else {}
        msg = self._client.session.msg("execute_request", content, metadata=metadata)
        execution = Execution(self, code, msg["header"]["msg_id"], time.monotonic(), inputs=list(inputs))
        self._executions[execution.msg_id] = execution
        self._client.shell_channel.send(msg)
        return execution

    def interrupt(self) -> float:
        """What the stop button does: SIGINT to the kernel's process group. Returns `time.monotonic()` of sending."""
        at = time.monotonic()
        self.manager.interrupt_kernel()
        return at

    def control(self, msg_type: str, content: Mapping[str, Any]) -> None:
        """Send a message on the control channel, as the browser does for our commands."""
        msg = self._client.session.msg(msg_type, dict(content))
        self._client.control_channel.send(msg)

    def comm(self, comm_id: str, data: Mapping[str, Any]) -> None:
        """Send a comm message on the shell channel, as ``model.send`` does in the browser."""
        self._client.shell_channel.send(self._client.session.msg("comm_msg", {"comm_id": comm_id, "data": dict(data)}))

    @property
    def executions(self) -> list[Execution]:
        """All cells that were sent."""
        return list(self._executions.values())

    @property
    def strays(self) -> list[Message]:
        """Messages that belong to no cell of this test."""
        return self._strays

    def wait_for(self, condition: Callable[[], object], timeout: float = PATIENCE, what: str = "") -> None:
        """Read messages until ``condition()`` holds; fail after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s: {what}")
            if not self.read() and not self.manager.is_alive():
                raise RuntimeError(f"the kernel died: {what}")

    def read(self) -> bool:
        """File what has arrived; wait a moment if nothing has. Returns whether anything had."""
        client = self._client
        found = False
        for channel, take in (
            (client.iopub_channel, self._on_iopub),
            (client.shell_channel, self._on_shell),
            (client.stdin_channel, self._on_stdin),
        ):
            while True:
                try:
                    msg = channel.get_msg(timeout=0)
                except queue.Empty:
                    break
                found = True
                take(msg)
        if not found:
            client.iopub_channel.socket.poll(20)  # Milliseconds; replies on the other channels follow an iopub message.
        return found

    def _on_iopub(self, msg: dict[str, Any]) -> None:
        message = Message(msg["msg_type"], msg["content"], time.monotonic())
        execution = self._executions.get(msg["parent_header"].get("msg_id", ""))
        if execution is None:
            self._strays.append(message)
            return
        execution.messages.append(message)
        if message.kind == "status" and message.content["execution_state"] == "idle":
            execution.idle_at = message.at

    def _on_shell(self, msg: dict[str, Any]) -> None:
        execution = self._executions.get(msg["parent_header"].get("msg_id", ""))
        if execution is not None and msg["msg_type"] == "execute_reply":
            execution.reply, execution.replied_at = msg["content"], time.monotonic()

    def _on_stdin(self, msg: dict[str, Any]) -> None:
        execution = self._executions[msg["parent_header"]["msg_id"]]
        prompt = msg["content"]["prompt"]
        execution.prompts.append(prompt)
        if not execution.inputs:
            raise AssertionError(f"the cell asks {prompt!r} and the test has no answer: {execution!r}")
        self._client.input(execution.inputs.pop(0))

    # --- process -------------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """The kernel's process and all its descendants."""
        try:
            kernel = psutil.Process(self.pid)
            return [kernel, *kernel.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def listeners(self) -> list[Any]:
        """Listening TCP sockets of the kernel and its descendants, the kernel's own ZMQ ports left out."""
        own = set(self.manager.ports)
        found = []
        for process in self.processes():
            try:
                found += [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return [c for c in found if c.laddr.port not in own]

    def kill(self) -> None:
        """``kill -9``, to the kernel's process alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.manager.provisioner.process.wait(PATIENCE)  # type: ignore[union-attr]

    def restart(self) -> None:
        """What the restart button does."""
        self._client.stop_channels()
        self.manager.restart_kernel()
        self._connect()

    def stop(self, *, gracefully: bool = False) -> None:
        """End the kernel and everything it started. Safe to repeat.

        Args:
            gracefully: Shut it down as a Jupyter server does: ask, after half of `GRACE` send SIGTERM, after the other half
                SIGKILL. (Stock ipykernel 7.4 mostly waits for the SIGTERM: its control thread waits for output to be flushed
                by a thread that has ended. Exit functions have run by then.) Otherwise it is killed at once.
        """
        if self.manager.has_kernel:
            processes = self.processes()
            if gracefully and self.manager.is_alive():
                self._client.shutdown()
                self.manager.finish_shutdown(GRACE)
            if self.manager.has_kernel:
                self.manager.shutdown_kernel(now=True)
            for leftover in wait_gone(processes, GRACE):
                leftover.kill()
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        self.manager.cleanup_resources()
        shutil.rmtree(self.home, ignore_errors=True)

    def _connect(self) -> None:
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=PATIENCE)


def kernel_environment(home: Path) -> dict[str, str]:
    """Environment of a process that is to import this checkout and to leave the user's own settings alone."""
    path = os.pathsep.join(
        filter(None, [str(ROOT), str(ROOT / "kernel-ext"), str(home), os.environ.get("PYTHONPATH", "")])
    )
    return {
        "PYTHONPATH": path,
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def wait_gone(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until these processes have ended. Returns those that live on after ``timeout`` seconds."""
    _gone, alive = psutil.wait_procs(processes, timeout=timeout)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def run_unattended(cells: Sequence[str], folder: Path) -> list[list[Any]]:
    """Run cells as nbclient does, whose prompts no one answers and which goes on after errors; the outputs of each."""
    sources = [f"import sys; sys.path.insert(0, {str(ROOT)!r})", *cells]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in notebook.cells[1:]]
