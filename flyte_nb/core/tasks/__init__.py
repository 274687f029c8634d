"""Authoring: environments, tasks, and how a call of a task becomes an action."""
