"""What becomes of each message: rules over the state, without sockets and without a clock."""
