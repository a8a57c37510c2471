"""Where runs go: one small protocol, a loop around the engine, and the places that implement the protocol."""
