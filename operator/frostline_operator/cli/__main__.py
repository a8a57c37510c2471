"""`python -m frostline_operator.cli`: the same as `frostline`."""

from frostline_operator.cli import main

main()
