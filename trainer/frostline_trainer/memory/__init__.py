"""Peak device memory of a training run, known before anything runs and without a GPU. See docs/memory-profile.md."""
