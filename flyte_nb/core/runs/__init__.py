"""Start, find, retry and rerun runs."""
