"""What `corral top` knows, and how that looks."""
