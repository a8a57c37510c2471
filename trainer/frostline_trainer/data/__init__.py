"""Training data: samples on demand, in an order that is a pure function of (seed, position)."""
