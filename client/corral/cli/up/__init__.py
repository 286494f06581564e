"""What `corral up` keeps: a directory, children, and the end of it."""
