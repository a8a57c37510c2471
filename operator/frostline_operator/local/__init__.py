"""Studies on this machine: runs are processes, the state is a SQLite file."""
