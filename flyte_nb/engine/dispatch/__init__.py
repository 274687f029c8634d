"""Attempts on their way to workers: task code, lanes that take it, bundles, losses."""
