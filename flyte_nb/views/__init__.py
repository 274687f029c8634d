"""Show runs: a model of each, and views in a notebook, on a terminal, or as lines. Runs in: engine thread."""
