"""What user code may do inside a task beside calling tasks: trace, ask, look at its context."""
