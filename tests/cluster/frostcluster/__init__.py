"""Frostline's test cluster: a whole, real Kubernetes with declared GPUs, built from source and run on one machine."""

from frostcluster.errors import ClusterError, MissingRequirement

__all__ = ["ClusterError", "MissingRequirement"]
