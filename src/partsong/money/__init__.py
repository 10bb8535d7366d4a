"""The money of runs: typical costs, plans that fit a cap, and money that is reserved for a call and settled after."""
