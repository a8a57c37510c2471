"""Everything that decides: the API, the engine, the places where runs go, and the two front doors."""

__version__ = "0.1.0"
