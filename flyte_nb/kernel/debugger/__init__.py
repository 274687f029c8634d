"""The debugger in the notebook: at a remote failure, and in an action that is replayed here. Runs in: kernel main thread."""
