"""Configurations proposed from results (`search.sampler: Model`): a Gaussian process over all rungs, expected
improvement at the highest one.

`points` places configurations in the unit cube, `observations` turns results into numbers to learn from, `process` is
the model, `acquisition` its judgement of candidates, and `batch` puts them together. All of it is pure and seeded.
What is proposed depends on the results at hand, so the study's state keeps it: it is never worked out again.
"""

from frostline_operator.engine.proposals.batch import BATCH, propose

__all__ = ["BATCH", "propose"]
