"""What `import corral` promises."""

import subprocess
import sys

import corral


def test_the_public_names_are_these_and_all_of_them_load() -> None:
    assert corral.__all__ == [
        "AsyncClient", "Chunk", "Client", "Completed", "ContainerSpec", "CorralError", "Cursor", "DeadlineError", "Event",
        "EventGap", "Exit", "FleetList", "Gap", "InvalidError", "Mount", "NotFoundError", "OciProcess", "OutcomeUnknownError",
        "Packed", "ProcessFailedError", "PushProgress", "Pushed", "Resync", "ResyncError", "RetryError", "RuntimeFailedError",
        "StateError", "StdioOptions", "UnauthorizedError", "keep_large_blocks", "pack_bundle", "shell_status",
    ]  # fmt: skip
    assert all(getattr(corral, name) is not None for name in corral.__all__)


def test_importing_it_loads_neither_zeromq_nor_asyncio() -> None:
    code = "import corral, sys; print([name for name in ('zmq', 'asyncio', 'msgspec') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    assert found.stdout.strip() == "[]"
