"""Capabilities by docker's rules."""

import pytest

from corral_schemas.capabilities import DEFAULT, KNOWN, capability, capability_set


@pytest.mark.parametrize(
    ("add", "drop", "found"),
    [
        ([], [], set(DEFAULT)),
        (["NET_ADMIN"], [], {*DEFAULT, "CAP_NET_ADMIN"}),
        ([], ["chown"], {*DEFAULT} - {"CAP_CHOWN"}),
        (["NET_ADMIN"], ["ALL"], {"CAP_NET_ADMIN"}),
        (["ALL"], ["SYS_ADMIN"], {*KNOWN} - {"CAP_SYS_ADMIN"}),
        (["ALL"], ["ALL"], set(KNOWN) - {"ALL"}),
        (["CHOWN"], ["CHOWN"], set(DEFAULT)),
    ],
)
def test_what_is_added_and_dropped(add: list[str], drop: list[str], found: set[str]) -> None:
    assert set(capability_set(add, drop)) == found


def test_a_name_that_linux_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="'nope' is no capability"):
        capability("nope")
