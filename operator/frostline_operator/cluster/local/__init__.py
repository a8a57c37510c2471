"""Runs as processes on this machine's devices."""
