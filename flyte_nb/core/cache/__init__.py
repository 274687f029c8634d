"""Results found again, on disk."""
