"""Which versions this checkout is installed with: the lock, its renewal, and virtual environments made from it. Standard library only."""
