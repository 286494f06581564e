"""The guest's front: takes commands from brokers, has shims carry them out, keeps the journal, publishes events."""

__version__ = "0.1.0"
