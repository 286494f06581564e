"""Wrong usage: a line that helps, and the right status."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.cli.main import corral
from corral.cli.shell.docker_flags import FLAGS


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No broker is found by accident."""
    monkeypatch.setenv("CORRAL_BROKER", f"ipc://{tmp_path}/none")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def corral_says(*args: str) -> Result:
    return CliRunner().invoke(corral, list(args))


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, flags in FLAGS.items() for flag in flags])
def test_each_flag_of_dockers_is_refused_in_one_sentence(name: str, flag: str) -> None:
    said = corral_says(name, flag)
    assert said.exit_code == (125 if name in ("run", "exec", "attach") else 2)
    assert said.stdout == ""
    assert said.stderr.startswith(f"corral: {flag} is docker's and not Corral's: ")
    assert said.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["runn"], 2, "did you mean run"),
        (["--nope"], 2, "No such option"),
        (["ps", "--alll"], 2, "did you mean --all?"),
        (["kill"], 2, "Missing argument"),
        (["kill", "-s", "NOPE", "x"], 2, "is not a signal such as"),
        (["kill", "a/b/c/d"], 2, "is not GUEST/NAME"),
        (["stop", "g1/web/sh"], 2, "names a process"),
        (["stop", "-t", "soon", "x"], 2, "is not a duration"),
        (["logs", "--tail", "some", "x"], 2, "neither a number nor all"),
        (["events", "--filter", "colour=red"], 2, "--filter"),
        (["events", "--kind", "party"], 2, "there is no event of kind"),
        (["events", "--since", "1h", "--after", "c1.x"], 2, "give one"),
        (["update", "x"], 2, "say what to change"),
        (["update", "--resources", "{", "x"], 2, "--resources"),
        (["start", "-a", "x", "y"], 2, "-a takes one container"),
        (["up", "--guests", "0"], 2, "--guests"),
        (["create"], 2, "give one of them: --image NAME"),
        (["run", "sh"], 125, "give one of them: --image NAME"),
        (["run", "--rootfs", "here", "sh"], 125, "must be an absolute path, in the guest"),
        (["run", "--rootfs", "/r"], 125, "say what to run"),
        (["run", "--rootfs", "/r", "--bundle", "/b", "sh"], 125, "one of them"),
        (["run", "--bundle", "/b", "sh"], 125, "CMD goes with --rootfs"),
        (["run", "--bundle", "/b", "-e", "A=1"], 125, "--env changes nothing in a bundle"),
        (["run", "--rootfs", "/r", "-v", "a:b", "sh"], 125, "is not SRC:DST[:ro]"),
        (["run", "--rootfs", "/r", "-e", "=x", "sh"], 125, "is not K=V"),
        (["run", "--rootfs", "/r", "--memory", "lots", "sh"], 125, "is not a size"),
        (["run", "--rootfs", "/r", "--network", "bridge", "sh"], 125, "none"),
        (["run", "-it", "--rootfs", "/r", "sh"], 125, "needs a terminal as stdin"),
        (["run", "-itp", "80:80", "--rootfs", "/r", "sh"], 125, "-p is docker's"),
        (["exec", "-it", "g1/web", "sh"], 125, "needs a terminal as stdin"),
        (["exec", "g1/web"], 125, "Missing argument"),
        (["exec", "g1/web/sh", "ls"], 125, "names a process"),
        (["attach"], 125, "Missing argument"),
    ],
)
def test_wrong_usage_is_said_in_a_line_and_has_its_status(args: list[str], status: int, says: str) -> None:
    said = corral_says(*args)
    assert said.exit_code == status, said.output
    assert says in said.stderr
    assert said.stdout == ""
    assert said.stderr.startswith("corral: ")
    assert said.stderr.count("\n") <= 2


def test_flags_after_the_program_are_the_programs() -> None:
    said = corral_says("run", "--rootfs", "relative", "sh", "-p", "--privileged")
    assert "must be an absolute path" in said.stderr


@pytest.mark.parametrize(("args", "status"), [(["ps"], 255), (["run", "--rootfs", "/r", "sh"], 125), (["wait", "g1/x"], 255)])
def test_without_a_broker_the_status_says_so_within_six_seconds(args: list[str], status: int) -> None:
    said = corral_says(*args)
    assert said.exit_code == status
    assert "no broker answered at ipc://" in said.stderr


def test_where_no_address_is_known_every_place_that_was_tried_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CORRAL_BROKER")
    monkeypatch.setattr("corral.address.address_path", lambda environment: tmp_path / "address")
    said = corral_says("ps")
    assert said.exit_code == 255
    for place in ("--broker", "CORRAL_BROKER", "config.toml", str(tmp_path / "address")):
        assert place in said.stderr
