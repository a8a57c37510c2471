"""Everything that trains: the last z layers of one or several trials, within one pod or process.

Importing this package must stay cheap and free of torch: the operator imports `frostline_trainer.contract` from an
image that has no torch in it.
"""
