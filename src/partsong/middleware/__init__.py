"""Models that wrap a model: one concern, one file, and none knows another."""
