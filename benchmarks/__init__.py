"""Where the figures in the README and docs come from, each with one command."""
