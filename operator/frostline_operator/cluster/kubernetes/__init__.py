"""Runs as Jobs on the nodes of a Kubernetes cluster; all that is known of a study is kept in the API server."""
