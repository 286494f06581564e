"""Which container a shim is for, and where its things are."""

from __future__ import annotations

from corral_worker.shim.base.light import Path, dataclass


@dataclass(frozen=True, slots=True)
class ShimPaths:
    """Which container, and where its things are."""

    guest: str
    instance: str
    run_dir: Path
    state_dir: Path

    @property
    def directory(self) -> Path:
        """The container's directory in the state."""
        return self.state_dir / "instances" / self.instance

    @property
    def socket_path(self) -> Path:
        """Where the shim listens."""
        return self.run_dir / "s" / f"{self.instance}.sock"

    @property
    def runtime_directory(self) -> Path:
        """The runtime's own, while the container exists."""
        return self.run_dir / "runc" / self.instance
