"""What the library decides, without I/O: time and messages go in, messages and wake-up times come out."""
