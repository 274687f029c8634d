"""JupyterLab's debugger (its protocol, over the control channel) and remote actions: replay stops in it, the cluster starts under it."""

from __future__ import annotations

import itertools
import queue
import time
from typing import Any

import pytest

from tests.kernel.kernelclient import PATIENCE, Kernel

pytestmark = [pytest.mark.kernel, pytest.mark.cluster]

WORK = """@env.task
async def work(x: int) -> int:
    y = x * 2
    z = y + 1
    return z
"""


class Debugger:
    """What JupyterLab's debugger says to a kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._numbers = itertools.count(1)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Send a request; the body of its answer."""
        client = self._kernel._client
        content = {"type": "request", "seq": next(self._numbers), "command": command, "arguments": arguments}
        message = client.session.msg("debug_request", content)
        client.control_channel.send(message)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._kernel.read()
            try:
                answer = client.control_channel.get_msg(timeout=0.02)
            except queue.Empty:
                continue
            if answer["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                assert answer["content"]["success"], answer["content"]
                return dict(answer["content"].get("body") or {})
        raise TimeoutError(command)


def test_a_breakpoint_of_jupyterlab_stops_a_replay_and_leaves_the_engine_alone() -> None:
    """Turned on before the cluster starts: its workers are not debugged; the engine's thread is not stopped."""
    with Kernel.start() as nb:
        debugger = Debugger(nb)
        debugger.ask(
            "initialize", clientID="test", adapterID="", pathFormat="path", linesStartAt1=True, columnsStartAt1=True
        )
        debugger.ask("attach")
        source = debugger.ask("dumpCell", code=WORK)["sourcePath"]
        debugger.ask("setBreakpoints", source={"path": source}, breakpoints=[{"line": 4}], sourceModified=False)
        debugger.ask("configurationDone")
        nb.run("%load_ext flyte_nb\nimport flyte_nb as flyte\nenv = flyte.TaskEnvironment('d')").ok()
        nb.run(WORK).ok()
        assert "9" == nb.run("await work(4)").ok().result

        cell = nb.begin("%flyte replay a1")

        def stopped() -> list[dict[str, Any]]:
            events = [m.content for m in (*nb.strays, *cell.messages) if m.kind == "debug_event"]
            return [event["body"] for event in events if event["event"] == "stopped"]

        cell.wait_for(stopped, 30)
        frame = debugger.ask("stackTrace", threadId=stopped()[0]["threadId"])["stackFrames"][0]
        scope = debugger.ask("scopes", frameId=frame["id"])["scopes"][0]
        found = debugger.ask("variables", variablesReference=scope["variablesReference"])["variables"]
        threads = [thread["name"] for thread in debugger.ask("threads")["threads"]]
        debugger.ask("continue", threadId=stopped()[0]["threadId"])
        cell.ok()

        assert ("work", 4) == (frame["name"], frame["line"])
        assert {"x": "4", "y": "8"}.items() <= {each["name"]: each["value"] for each in found}.items()
        assert "flyte-engine" not in threads
        assert "work(4) returned 9" in cell.stdout
