"""Results as data: actions of a run as people look at them, as a table, and beside those of another run."""
