"""A person's own training function as a trial."""
