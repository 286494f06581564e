"""Bundles that were pushed to this guest: kept under their digest, shared read-only by containers."""
