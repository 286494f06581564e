"""What `corral batch` adds to the library's runner: a plan from words, and a run at the command line."""
