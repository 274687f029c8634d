"""Settings of tasks and environments, as checked values.

Read `config` first: all settings of one task, and how an override changes them. The other files have one kind of value each.
"""
