"""Detached runs: a process of their own sees them through. Runs in: the user's process; the process of the run."""
