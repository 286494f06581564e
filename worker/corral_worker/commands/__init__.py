"""From a command's frames to its reply."""
