"""Sockets and connections. Nothing here decides what a message means."""
