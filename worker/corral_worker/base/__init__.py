"""What every room may use: paths, durable files, tasks, memory, keys. It imports nothing of the worker."""
