"""The tasks of the bench, a file for each task; `published.py` finds the files of public benchmarks."""
