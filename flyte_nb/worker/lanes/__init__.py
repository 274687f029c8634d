"""Lanes as a worker executes them: attempts, and rows. Runs in: worker process, task thread."""
