"""What happened: events, and the fold that makes runs and actions of them."""
