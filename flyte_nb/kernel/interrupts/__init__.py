"""The stop button, whatever the cell is doing. Runs in: kernel main thread."""
