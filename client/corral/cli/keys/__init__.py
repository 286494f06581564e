"""A broker's key directory, and its audit log."""
