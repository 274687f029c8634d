"""Cells: which one runs, its output, its name in errors, its calls that were not awaited. Runs in: kernel main thread."""
