"""What a model costs and how much device memory it needs, at every z, without a GPU."""
