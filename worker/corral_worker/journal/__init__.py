"""The guest's durable record of events, command results and containers."""
