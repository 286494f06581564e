"""Guests in QEMU: an image, a template, and machines cloned from it in about a second."""
