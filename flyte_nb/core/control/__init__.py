"""Which attempt runs next, and what an attempt's end means for its action."""
