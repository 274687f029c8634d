"""Clicks in a view, received once each, while a cell runs. Runs in: kernel; posts to the engine thread.

The browser sends every command twice: as a ``flyte_ui`` message on the kernel's control channel, which arrives within
milliseconds whatever the cell is doing, and as a widget message, which reaches kernels behind front ends that don't let a
widget at the control channel. Whichever comes second is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

logger: logging.Logger = logging.getLogger(__name__)

#: The message type on the control channel.
MESSAGE_TYPE = "flyte_ui"
#: Nonces remembered. A copy arrives seconds after its twin at most, or when a blocking cell ends: no one clicks this often.
MAX_NONCES = 4_096
#: Longest operation name or nonce that is looked at, in characters; ours are shorter than 40.
MAX_NAME = 128


class Command(NamedTuple):
    """One thing the user asked for."""

    #: What to do: "cancel", "retry", ...
    op: str
    #: With what; its keys depend on `op`.
    args: Mapping[str, Any]
    #: Made by the browser, unique per command.
    nonce: str
    #: Which widget it came from (the browser's ``comm_id``); "" if unknown.
    widget: str
    #: The path it came by: "control" or "comm".
    via: str


class CommandRouter:
    """Takes commands off both paths and gives each, once, to a handler in another thread.

    Args:
        handle: Called with each command, in the thread that ``post`` reaches.
        post: Hands a call to that thread without blocking, as ``engine_loop.call_soon_threadsafe`` does. All calls must run
            in one thread.
    """

    def __init__(self, handle: Callable[[Command], object], post: Callable[..., object]) -> None:
        self._handle = handle
        self._post = post
        self._seen: dict[str, None] = {}  # Ordered: the oldest is first. Touched only in the thread behind `post`.
        self._handlers: dict[str, Any] | None = None
        self._before: Any = None

    def install(self, ip: Any) -> bool:
        """Listen on the control channel of the kernel of ``ip``. Does nothing when listening already.

        Returns:
            Whether there is a control channel; without one (terminal IPython) only widget messages arrive.
        """
        if self._handlers is None:
            handlers = getattr(getattr(ip, "kernel", None), "control_handlers", None)
            if not isinstance(handlers, dict):
                return False
            self._handlers, self._before = handlers, handlers.get(MESSAGE_TYPE)
            handlers[MESSAGE_TYPE] = self._on_control
        return True

    def uninstall(self) -> None:
        """Stop listening. Does nothing when not listening. Widgets that still call `on_widget_message` are answered no more."""
        handlers, self._handlers = self._handlers, None
        if handlers is None or handlers.get(MESSAGE_TYPE) != self._on_control:
            return
        if self._before is None:
            del handlers[MESSAGE_TYPE]
        else:
            handlers[MESSAGE_TYPE] = self._before

    def on_widget_message(self, _widget: object, content: object, _buffers: object = None) -> bool:
        """For ``widget.on_msg``. Any thread.

        Returns:
            Whether it was a command; other messages are the widget's own business.
        """
        return self.accept(content, via="comm")

    def accept(self, content: object, *, via: str) -> bool:
        """Take a command from anywhere, if it is one. Any thread; never blocks, prints or raises."""
        command = parse(content, via)
        if command is None:
            return False
        try:
            self._post(self._take, command)
        except RuntimeError:  # The engine's loop is closed: the session is over.
            logger.debug("too late for %s", command.op, exc_info=True)
        return True

    def _on_control(self, _stream: object, _ident: object, message: Mapping[str, Any]) -> None:
        # Runs in ipykernel's control thread, which also serves interrupts and the debugger: hand over and return.
        if not self.accept(message.get("content"), via="control"):
            logger.debug("a %s message was not understood", MESSAGE_TYPE)

    def _take(self, command: Command) -> None:
        if command.nonce in self._seen:
            return
        self._seen[command.nonce] = None
        while len(self._seen) > MAX_NONCES:
            del self._seen[next(iter(self._seen))]
        self._handle(command)


def parse(content: object, via: str) -> Command | None:
    """The command in a message's content, or None if it holds none."""
    if not isinstance(content, Mapping):
        return None
    op, args, nonce, widget = (content.get(key) for key in ("op", "args", "nonce", "comm_id"))
    if not (isinstance(op, str) and isinstance(nonce, str) and 0 < len(op) <= MAX_NAME and 0 < len(nonce) <= MAX_NAME):
        return None
    args = {} if args is None else args
    if not isinstance(args, Mapping):
        return None
    return Command(op, dict(args), nonce, widget if isinstance(widget, str) else "", via)
