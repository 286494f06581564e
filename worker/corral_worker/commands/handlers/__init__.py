"""One handler per op."""
