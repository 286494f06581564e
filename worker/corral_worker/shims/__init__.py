"""The worker's ends of its connections to shims and to the zygote."""
