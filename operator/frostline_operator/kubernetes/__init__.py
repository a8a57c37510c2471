"""Studies on Kubernetes: the controller, its objects, its client and what it publishes."""
