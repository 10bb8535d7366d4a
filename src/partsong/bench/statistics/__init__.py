"""The statistics of the bench: functions of numbers, which call no model and read no file."""
