"""The paper's experiments (Wang et al. 2024, arXiv 2406.04692), to be run on any models."""
