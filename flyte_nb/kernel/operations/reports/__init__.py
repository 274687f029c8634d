"""Reports: runs as tables, where their time went, and what to say of this installation. Runs in: kernel."""
