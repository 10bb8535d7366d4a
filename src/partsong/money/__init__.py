"""What a run may cost: typical prices, plans that fit a cap, reservations, and settlements."""
