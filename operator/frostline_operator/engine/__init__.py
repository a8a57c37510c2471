"""The pure core: what is true now goes in, what to do next comes out.

No module here does I/O, reads a clock, or draws a random number that does not derive from the seed, so that every
decision can be replayed from recorded inputs and property-tested.
"""
