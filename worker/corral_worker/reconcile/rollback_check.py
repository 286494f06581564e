"""Whether the journal is an earlier state of what it once was: a restored snapshot, a clone (guarantee 24)."""

from corral_schemas.cursor import Place
from corral_worker.journal.journal import Journal


def set_back(journal: Journal, found: Place, seen: Place, *, first: bool) -> str:
    """Why the journal was set back, judged by a place that a broker has seen; empty where it was not.

    `found` is where the journal stood before this worker wrote to it, and `first` whether that broker registers this worker for the first
    time: what it had seen before is then to be in what was found, and not in what was written since.
    """
    if seen.epoch != journal.epoch:
        if seen.epoch in journal.past_epochs or found.epoch != journal.epoch:
            return ""  # an epoch that is over, or that of a journal that is lost: the present one began after it
        return f"epoch {seen.epoch} was announced, of which the journal of epoch {journal.epoch} knows nothing"
    ends_at = found.seq if first and found.epoch == journal.epoch else journal.last_seq
    if seen.seq > ends_at:
        return f"the journal ended at {ends_at}, but {seen.seq} was announced"
    mark = journal.mark_at(seen.seq)
    if seen.mark and mark and mark != seen.mark:
        return f"event {seen.seq} of the journal is not the one that was announced"
    return ""
