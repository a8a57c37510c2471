"""The manifests a person writes and reads: pydantic models, one source for YAML, CRDs and docs."""
