"""Which guests and containers a command is for, and the same act on each of them."""
