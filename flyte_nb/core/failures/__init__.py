"""Failures as records: captured where an exception is raised, shown and raised again elsewhere.

Read `record` first, then `capture` (exception to record) and `rebuild` (record to exception). `traceback_text` shows one.
"""
