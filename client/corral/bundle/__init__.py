"""Bundles on the pushing side: packing a root file system, and bringing it to guests."""
