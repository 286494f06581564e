"""What is made of what is found: at the start, from shims' notices, by looks at the machine, and by age."""
