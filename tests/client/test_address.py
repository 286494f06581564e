"""Where a client looks for its broker."""

from pathlib import Path

import pytest

from corral.address import address_path, check_address, joined, resolve_address
from corral_schemas.errors import CorralError


def write_config(directory: Path, text: str) -> dict[str, str]:
    (directory / "corral").mkdir()
    (directory / "corral" / "config.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(directory)}


def test_what_is_given_wins_over_the_environment_and_that_over_the_context(tmp_path: Path) -> None:
    known = write_config(tmp_path, 'current = "home"\n[contexts.home]\nbroker = "tcp://home:7700"\n')
    assert resolve_address(None, known) == ["tcp://home:7700"]
    known["CORRAL_BROKER"] = "ipc:///one, ipc:///two"
    assert resolve_address(None, known) == ["ipc:///one", "ipc:///two"]
    assert resolve_address("tcp://h:1", known) == ["tcp://h:1"]
    assert resolve_address(["tcp://h:1", "tcp://h:2"], known) == ["tcp://h:1", "tcp://h:2"]


def test_none_found_names_all_four_places(tmp_path: Path) -> None:
    if address_path({}).exists():
        pytest.skip("a broker runs on this machine")
    with pytest.raises(CorralError) as caught:
        resolve_address(None, {"XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)})
    assert caught.value.code == "guest_unreachable"
    for place in ("--broker", "CORRAL_BROKER", f"{tmp_path}/corral/config.toml", "/address"):
        assert place in caught.value.message


@pytest.mark.parametrize("text", ["current = [", 'current = "gone"', 'current = "a"\n[contexts.a]\n'])
def test_a_configuration_that_cannot_be_used_is_said_to_be_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(CorralError, match=r"bad_request.*config\.toml"):
        resolve_address(None, write_config(tmp_path, text))


@pytest.mark.parametrize("address", ["tcp://h", "tcp://:1", "tcp://h:0", "tcp://h:99999", "ipc://", "http://h:1", "h:1", "tcp://h:x"])
def test_an_address_of_another_form_is_refused(address: str) -> None:
    with pytest.raises(CorralError, match="bad_request"):
        check_address(address)


def test_other_sockets_are_named_from_the_one_that_was_dialled() -> None:
    assert joined("tcp://[::1]:7700", "7703") == "tcp://[::1]:7703"
    assert joined("ipc:///run/b", ".eo") == "ipc:///run/b.eo"
