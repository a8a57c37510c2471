"""The custom resource definitions, generated from the API's models so that the two can never tell different stories."""
