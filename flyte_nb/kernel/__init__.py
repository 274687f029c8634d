"""Kernel: the session behind a notebook, its cells, `%flyte`, the stop button, the debugger. Runs in: kernel main thread."""
