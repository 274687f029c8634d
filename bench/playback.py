"""Play synthetic runs into real views in a kernel, from a background thread, as the engine does. Runs in: kernel."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flyte_nb.core.history import events as ev
from flyte_nb.core.history.store import RunStore
from flyte_nb.kernel.clicks import Command, CommandRouter
from flyte_nb.views.view import View

Bundle = Mapping[str, Any]


class CellDisplay:
    """Displays under the cell that was running when it was made."""

    def __init__(self, ip: Any) -> None:
        self._kernel = ip.kernel
        self._parent = ip.get_parent()

    def publish(self, bundle: Bundle, display_id: str) -> None:
        self._send("display_data", bundle, display_id)

    def update(self, bundle: Bundle, display_id: str) -> None:
        self._send("update_display_data", bundle, display_id)

    def _send(self, kind: str, bundle: Bundle, display_id: str) -> None:
        content = {"data": dict(bundle), "metadata": {}, "transient": {"display_id": display_id}}
        self._kernel.session.send(self._kernel.iopub_socket, kind, content, parent=self._parent, ident=kind.encode())


class Stage:
    """An engine-like thread with a store and views."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.store = RunStore()
        self.views: dict[str, View] = {}
        #: (op, args) of commands that the view passed on.
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="stage", daemon=True).start()
        self.router = CommandRouter(self._take, self.loop.call_soon_threadsafe)
        self.router.install(ip)

    def _take(self, command: Command) -> None:
        for view in list(self.views.values()):
            if view.uid == command.widget:
                view.handle(command.op, command.args, command.nonce)

    def _control(self, op: str, args: Mapping[str, Any], _nonce: str) -> Any:
        self.commands.append((op, dict(args)))
        return {"text": f"{op} {dict(args)}"}

    def play(
        self,
        events: Iterable[ev.Event],
        *,
        speed: float = 1.0,
        batch: int = 0,
        every: float = 0.0,
        wait: bool = False,
        close: bool = True,
        show: bool = True,
        details: Any = None,
    ) -> None:
        """Play events by their own times (`speed` times faster), or `batch` of them `every` seconds."""
        display = CellDisplay(self.ip)
        done = threading.Event()

        async def work() -> None:
            view = None
            started = time.time()
            offset = None
            n = 0
            for at, event in _by_time(events):
                if offset is None:
                    offset = started - at
                if batch:
                    n += 1
                    if n % batch == 0:
                        await asyncio.sleep(every)
                else:
                    pause = (at + offset - started) / speed - (time.time() - started)
                    if pause > 0.005:
                        await asyncio.sleep(pause)
                self.store.append(_shift(event, offset, started, speed))
                if view is None:
                    record = self.store.runs[event.run]
                    if show:
                        view = self.views[event.run] = View(
                            record, display=display, on_message=self.router.on_widget_message, control=self._control,
                            details=details,
                        )  # fmt: skip
                        view.start()
            if view is not None and close:
                view.finish()
            done.set()

        asyncio.run_coroutine_threadsafe(work(), self.loop)
        if wait:
            done.wait()

    def show(self, run: str) -> None:
        """Show a run again, as ``%flyte show`` does."""
        display = CellDisplay(self.ip)

        def work() -> None:
            self.views[run].also(display)

        self.loop.call_soon_threadsafe(work)


def _by_time(events: Iterable[ev.Event]) -> list[tuple[float, ev.Event]]:
    """Events with their times, in order; what has no time of its own comes with what was before it."""
    timed: list[tuple[float, ev.Event]] = []
    for event in events:
        at = _when(event) or (timed[-1][0] if timed else 0.0)
        timed.append((at, event))
    return sorted(timed, key=lambda pair: pair[0])


def _when(event: ev.Event) -> float:
    if isinstance(event, ev.Logged):
        return event.lines[0].at
    return getattr(event, "at", 0.0)


def _shift(event: ev.Event, offset: float, started: float, speed: float) -> ev.Event:
    def move(at: float) -> float:
        return started + (at + offset - started) / speed

    if isinstance(event, ev.Logged):
        return event._replace(lines=tuple(line._replace(at=move(line.at)) for line in event.lines))
    if isinstance(event, ev.AttemptEnded):
        return event._replace(at=move(event.at), started_at=move(event.started_at), busy=event.busy / speed)
    if isinstance(event, ev.Reported):
        return event
    return event._replace(at=move(event.at))
