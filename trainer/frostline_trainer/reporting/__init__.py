"""What a run says while it trains and at its end: metrics and its result."""
