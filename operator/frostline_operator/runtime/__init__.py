"""The loop around the engine, and what a place that runs trainers and a store of state must be able to do."""
