"""What is read from and shown to people and programs: targets, tables, lines, failures."""
