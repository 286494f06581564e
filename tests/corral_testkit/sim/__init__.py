"""A whole Corral in one process: real clients, brokers and workers on a simulated network, clock, disk and runtime, from a seed."""
