"""Attempts: one execution of a task's body, in whichever process.

Read `body` first: from arguments to outcome. `output` captures what it prints, `inline` runs it in a thread of this process.
"""
