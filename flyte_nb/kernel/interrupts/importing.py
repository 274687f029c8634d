"""Imports that a stop ends at once, in a cell of any kind. Runs in: kernel main thread, before the extension is loaded.

ipykernel cancels a cell that awaits: what that cell computes or imports goes on until it awaits the next time. Imports only
what is there before Dask is.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Have a stop raise KeyboardInterrupt in this block, whose traceback does not tell of the block.

    Raises:
        KeyboardInterrupt: Stop was pressed.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        # IPython shows each frame's source: of an import that is nested twenty deep, for seconds.
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)
