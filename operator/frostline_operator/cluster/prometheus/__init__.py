"""Asking a Prometheus for the scores of studies: how to reach it, what to ask, and what its answers are worth."""
