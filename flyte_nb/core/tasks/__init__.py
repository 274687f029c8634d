"""Authoring: environments, tasks, and how a call of a task becomes an action.

Read `task` first, then `prepare`: bind, check, serialize and name a call. `context` is that of the running code.
"""
