"""What a service manager asks for, read from an environment, which is left without it."""

import pytest

from corral_schemas.sd_notify import Manager, claim_manager

PID = 77


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, Manager()),
        ({"NOTIFY_SOCKET": "/run/s"}, Manager("/run/s")),
        ({"NOTIFY_SOCKET": "@abstract"}, Manager("\0abstract")),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, Manager()),
        ({"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "30000000"}, Manager("/run/s", 10.0)),
        ({"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, Manager("/run/s", 10.0)),
        ({"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, Manager("/run/s")),
        ({"NOTIFY_SOCKET": "/run/s", "WATCHDOG_USEC": "soon"}, Manager("/run/s")),
        ({"WATCHDOG_USEC": "30000000"}, Manager()),
    ],
)
def test_whom_to_tell_and_how_often(environment: dict[str, str], wanted: Manager) -> None:
    given = {**environment, "HOME": "/root"}
    assert claim_manager(given, PID) == wanted
    assert given == {"HOME": "/root"}
