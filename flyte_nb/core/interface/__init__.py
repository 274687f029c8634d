"""A task's inputs and outputs, by its annotations."""
