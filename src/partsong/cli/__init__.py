"""The command line: one file for each command, and `terminal.py`, which draws the events of a run."""
