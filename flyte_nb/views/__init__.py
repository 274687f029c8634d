"""Show runs: live widget, static snapshot, terminal. Runs in: engine thread."""
