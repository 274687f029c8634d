"""Authoring: environments, tasks, and how a call of a task becomes an action.

Read `task` first, then `prepare`: bind, check, serialize and name a call. `context` holds where the running code stands.
"""
