"""The way to brokers: sockets, sessions, and what is published."""
