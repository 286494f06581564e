"""Corral's broker: routes commands to guests, answers to clients, and passes events and stdio on. It holds no state that matters."""
