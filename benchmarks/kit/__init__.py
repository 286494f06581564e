"""What all benchmarks stand on: measuring, the machine, bare runc, a fleet to measure."""
