"""An exception as a record: captured where it is raised, shown and raised again elsewhere."""
