"""The command line: a file per command, and `terminal.py`, which draws a run's events."""
