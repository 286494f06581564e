"""A process in the foreground: its streams, signals and terminal."""
