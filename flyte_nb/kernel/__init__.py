"""The composition root: what makes a notebook kernel a Flyte session. Runs in: kernel main thread."""
