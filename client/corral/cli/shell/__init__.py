"""What every command is made of: help, options, completion, contexts, a client."""
