"""Networks as ordered units that can be cut, and how the built-in families make them."""
