"""`python -m corral_worker` is `corral worker`."""

from corral_worker.command import worker

worker()
