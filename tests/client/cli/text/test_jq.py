"""What commands print for programs goes through the real jq: JSON Lines, and nothing else on stdout."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral_testkit.cli import Up

pytestmark = pytest.mark.runc


@pytest.fixture(scope="module")
def used(up: Up, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Path]]:
    """A fleet with something to list: a container with an exec, one that has ended, a key, a batch."""
    if shutil.which("jq") is None:
        pytest.skip("needs jq")
    directory = tmp_path_factory.mktemp("jq")
    up.run("-d", "--name", "listed", "--", "sleep", "90")
    up.corral("exec", "-d", "--process", "wrote", "g1/listed", "--", "printf", r"gr\303\274n\n\377\n")
    up.corral("wait", "g1/listed/wrote")
    up.run("--name", "ended", "--", "sh", "-c", "exit 3")
    up.corral("keys", "new", "--broker", "--keys", directory / "keys")
    up.corral("keys", "new", "ann", "--keys", directory / "keys", "--role", "operator", "--file", directory / "ann.key")
    up.corral("batch", "run", "--run-dir", directory / "run", "--select", "all", "--rootfs", up.rootfs, "--", "true")
    yield up, directory
    up.corral("rm", "-f", "g1/listed", "g1/ended")


LISTS: dict[str, tuple[str, str]] = {
    "ps -a": ('select(.path == "g1/ended") | .status', "stopped"),
    "ps --select g1": (".status", "running"),
    "processes g1/listed": (".command[0]", "sleep"),
    "inspect g1/ended": (".processes[0].exit.code", "3"),
    "stats --no-stream g1/listed": (".path", "g1/listed"),
    "events --no-follow -c ended -k exit": (".data.exit.code", "3"),
    "guests": (".guest", "g1\ng2"),
    "info": (".kind", "broker"),
    "info g1": (".guest", "g1"),
    "doctor": ('select(.check == "guest g2") | .verdict', "ok"),
    "logs g1/listed/wrote": (".text // .base64", "grün\n\n/wo="),
    "wait g1/ended": (".status", "3"),
    "context list": (".name", "local"),
    "context show local": (".name", "local"),
    "keys list --keys DIR/keys": (".name", "ann"),
    "batch status DIR/run": (".outcomes.ok // .ok // .targets", "2"),
    "batch status --targets DIR/run": (".outcome", "ok\nok"),
}


@pytest.mark.parametrize("line", LISTS)
def test_every_list_goes_through_jq(used: tuple[Up, Path], line: str) -> None:
    up, directory = used
    query, wanted = LISTS[line]
    name, *rest = line.replace("DIR", str(directory)).split(" ")
    form = ["--json"] if name in ("logs", "wait") else ["--format", "json"]
    group = [rest.pop(0)] if name in ("context", "keys", "batch") else []
    listed = up.corral(name, *group, *form, *rest)
    assert (listed.returncode, listed.stderr) in [(0, ""), (1, "")] if name == "doctor" else (listed.returncode, listed.stderr) == (0, "")
    jq = subprocess.run(["jq", "-r", query], input=listed.stdout, capture_output=True, text=True, timeout=20, check=False)
    assert (jq.returncode, jq.stderr) == (0, ""), listed.stdout
    assert jq.stdout.strip() == wanted, listed.stdout
    lines = listed.stdout.splitlines()
    count = subprocess.run(["jq", "-c", "."], input=listed.stdout, capture_output=True, text=True, timeout=20, check=True)
    assert len(count.stdout.splitlines()) == len(lines), "one object a line"


def test_what_makes_something_tells_it_to_jq_too(used: tuple[Up, Path]) -> None:
    up, _ = used
    made = up.run("-d", "--rm", "--json", "--name", "told", "--", "sleep", "60").stdout
    created = up.corral("create", "--json", "-g", "g1", "--name", "made", "--rootfs", up.rootfs, "--", "true").stdout
    begun = up.corral("exec", "-d", "--json", "g1/told", "--", "true").stdout
    batch = up.corral(
        "batch", "run", "--json", "--run-dir", up.directory / "b", "--select", "g1", "--rootfs", up.rootfs, "--", "true"
    ).stdout
    for text, query, wanted in [
        (made, ".container", "told"),
        (created, ".container", "made"),
        (begun, ".process_instance | length", "26"),
        (batch, ".outcome", "ok"),
    ]:
        jq = subprocess.run(["jq", "-r", query], input=text, capture_output=True, text=True, timeout=20, check=True)
        assert jq.stdout.strip() == wanted
    up.corral("rm", "-f", "g1/told", "g1/made")
