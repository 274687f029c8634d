"""What an author can say about a task, as checked values."""
