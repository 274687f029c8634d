"""Interrupts: what the stop button does to the cell that runs. Runs in: kernel main thread."""
