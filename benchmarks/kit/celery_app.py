"""A Celery application with one task that answers at once; run by `celery -A kit.celery_app worker`."""

import os

from celery import Celery  # type: ignore[import-not-found,unused-ignore]

STORE = os.environ.get("CELERY_BENCH_STORE", "")

app = Celery("bench", broker=STORE, backend=STORE)
app.conf.update(task_ignore_result=False, worker_prefetch_multiplier=64, result_expires=60)


@app.task(name="answer")  # type: ignore[untyped-decorator,unused-ignore]
def answer(data: str) -> str:
    """The same again."""
    return data
