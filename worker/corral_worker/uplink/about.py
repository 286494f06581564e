"""What a worker says of itself: to brokers when it registers and with each heartbeat, and to whoever asks for `info`."""

import platform
import time
from typing import Literal

from corral_schemas import PROTOCOL_VERSION, limits
from corral_schemas.cursor import Place
from corral_schemas.queries import InfoReply
from corral_schemas.session import Heartbeat, Register
from corral_worker import __version__
from corral_worker.containers.guest import Guest, Settings
from corral_worker.runtime import cgroups


class About:
    """`found`: where the journal stood before this worker wrote to it. `brokers`: the addresses it was given."""

    def __init__(self, guest: Guest, found: Place, runtime_version: str, brokers: list[str]) -> None:
        self._guest, self._found, self._runtime_version = guest, found, runtime_version
        self._security = _security(brokers, guest.settings)
        self._started_ns = time.time_ns()

    def register(self, role: Literal["main", "bulk"], first: bool) -> Register:
        """first: this broker has yet to say what it had seen of the journal before us."""
        guest, settings = self._guest, self._guest.settings
        as_found = first and self._found.epoch == guest.journal.epoch
        place = self._found if as_found else guest.journal.durable_place()
        return Register(
            guest=settings.guest,
            worker=guest.worker,
            role=role,
            epoch=place.epoch,
            seq=place.seq,
            mark=place.mark,
            last_seq_by_kind=guest.journal.durable_seq_by_kind(),
            labels=settings.labels,
            version=__version__,
            runtime=self._runtime_version,
            load=guest.load(),
            token=settings.keys.token if settings.keys is not None else "",
            time_ns=time.time_ns(),
        )

    def heartbeat(self) -> Heartbeat:
        journal = self._guest.journal
        return Heartbeat(
            epoch=journal.epoch,
            seq=journal.durable_seq,
            mark=journal.durable_mark,
            last_seq_by_kind=journal.durable_seq_by_kind(),
            load=self._guest.load(),
            time_ns=time.time_ns(),
        )

    def info(self, counters: dict[str, int]) -> InfoReply:
        journal, settings = self._guest.journal, self._guest.settings
        return InfoReply(
            kind="worker",
            version=__version__,
            protocol=PROTOCOL_VERSION,
            instance=self._guest.worker,
            guest=settings.guest,
            epoch=journal.epoch,
            seq=journal.durable_seq,
            mark=journal.durable_mark,
            started_ns=self._started_ns,
            limits={name: value for name, value in vars(limits).items() if name.isupper()},
            counters=counters,
            about={
                "runtime": self._runtime_version,
                "runtime_path": settings.runtime.binary,
                "cgroups": cgroups.cgroup_version(),
                "kernel": platform.release(),
                "state_dir": str(settings.paths.state),
                "run_dir": str(settings.paths.run),
                "durability": settings.durability,
                "labels": settings.labels,
                "allowed_roots": [str(root) for root in settings.allowed_roots] or ["/"],
                "allow_privileged": settings.allow_privileged,
                "security": self._security,
                "time_ns": time.time_ns(),
            },
        )


def _security(brokers: list[str], settings: Settings) -> str:
    """As the broker says it: what protects the way to the brokers."""
    if not any(address.startswith("tcp://") for address in brokers):
        return "file permissions"
    return "curve" if settings.keys is not None else "insecure"
