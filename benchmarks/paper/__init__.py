"""Does training few layers find the right hyperparameters? The measurements behind docs/does-it-work.md."""
