"""Journal of runs on disk: what a kernel that is gone had done, found again by the next. Runs in: a run's home.

`Journal` writes, `History` reads, `restore` makes runs of this process of what was read.
"""
