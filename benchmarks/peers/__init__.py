"""Frostline beside the searches that people use today, on identical footing."""
