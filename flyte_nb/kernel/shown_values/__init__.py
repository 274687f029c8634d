"""Values of the user's as views show them: previews, and tables of runs; read when a person looks. Runs in: kernel."""
