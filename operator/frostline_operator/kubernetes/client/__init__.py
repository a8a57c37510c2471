"""The API server as seen from here: requests, watched copies of objects, and the Lease."""
