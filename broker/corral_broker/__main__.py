"""`python -m corral_broker`."""

from corral_broker.command import broker

if __name__ == "__main__":
    broker(prog_name="corral-broker")
