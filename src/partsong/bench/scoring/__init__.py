"""Stored outputs and judgments, read from a folder and scored; nobody is asked."""
