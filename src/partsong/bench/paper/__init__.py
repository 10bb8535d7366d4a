"""The experiments of the paper (Wang et al. 2024, arXiv 2406.04692), which can be run on any models."""
