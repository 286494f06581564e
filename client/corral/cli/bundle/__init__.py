"""What `corral bundle` asks of many guests."""
