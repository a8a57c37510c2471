"""Objective values on their way from the trainers to the engine: read directly, or through Prometheus."""
