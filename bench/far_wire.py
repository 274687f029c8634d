"""A wire with a delay, on loopback: TCP proxies before a scheduler and its workers, for those that stand far away from them.

Workers are told a contact address that is a proxy's, so every connection to them crosses the wire, each way so many ms.
Workers that talk to each other cross it as well: what is measured is a kernel that is far away, not a cluster that is.

Runs in: `bench/far.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed

#: Bytes read at once.
CHUNK = 1 << 18


class FarWire:
    """Proxies that pass on what they read, in order, a moment later."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="far-wire", daemon=True)
        self._thread.start()

    def proxy(self, port: int = 0) -> tuple[int, Any]:
        """A new proxy; returns its port, and what is to be called with the port that it leads to."""
        to = asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result(10)
        return to["from"], lambda target: to.update(to=target)

    async def _listen(self, port: int) -> dict[str, int]:
        ways: dict[str, int] = {}

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far = await asyncio.open_connection("127.0.0.1", ways["to"])
            except (OSError, KeyError):
                writer.close()
                return
            await asyncio.gather(self._pass(reader, far[1]), self._pass(far[0], writer), return_exceptions=True)

        server = await asyncio.start_server(connected, "127.0.0.1", port)
        ways["from"] = server.sockets[0].getsockname()[1]
        return ways

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                at, data = await waiting.get()
                await asyncio.sleep(at - self._loop.time())
                if not data:
                    break
                writer.write(data)
            writer.close()

        sending = asyncio.ensure_future(send())
        try:
            data = b"-"
            while data:
                data = await reader.read(CHUNK)
                await waiting.put((self._loop.time() + self.delay_s, data))
        except OSError:
            writer.close()
            sending.cancel()
        await asyncio.wait({sending})

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def far_cluster(
    folder: Path, delay_s: float, n_workers: int = 1, nthreads: int = 2, wire: FarWire | None = None
) -> Iterator[str]:
    """A scheduler and workers at the other end of a wire; yields the scheduler's address as seen from here."""
    wire = wire or FarWire(0.0)
    file, processes = folder / "scheduler.json", []
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}

    def dask(*words: str) -> None:
        processes.append(subprocess.Popen([sys.executable, "-m", "dask", *words, "--no-dashboard"], **quiet))

    try:
        dask(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            ":0",
            "--scheduler-file",
            str(file),
        )
        end = time.monotonic() + 60
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.05)
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as near:
            direct = str(near.scheduler.address)
            for _ in range(n_workers):
                port, leads_to = wire.proxy()
                own = port + 20_000 if port < 45_000 else port - 20_000
                leads_to(own)
                listen, contact = f"tcp://127.0.0.1:{own}", f"tcp://127.0.0.1:{port}"
                dask(
                    "worker",
                    direct,
                    "--nthreads",
                    str(nthreads),
                    "--listen-address",
                    listen,
                    "--contact-address",
                    contact,
                )
            near.wait_for_workers(n_workers, timeout=60)
        port, leads_to = wire.proxy()
        leads_to(int(direct.rpartition(":")[2]))
        wire.delay_s = delay_s
        yield f"tcp://127.0.0.1:{port}"
    finally:
        wire.delay_s = 0.0
        for process in processes[::-1]:
            process.terminate()
            process.wait(20)
        wire.close()
