"""Computes scores from stored outputs and judgments, without calling any model."""
