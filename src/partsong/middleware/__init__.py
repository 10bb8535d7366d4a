"""Models that wrap another model, one file for each concern. No wrapper imports another; `stack` decides the order."""
