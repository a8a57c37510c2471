"""Kubernetes objects as pure functions: the Jobs that are made, and what Jobs, pods and nodes say."""
