"""The synchronous face of the library: the same names, without `await`."""
