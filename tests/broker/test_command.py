"""Starting and ending: the command line, the files of an ipc address, and every way in which an address is refused."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from broker.conftest import BrokerProcess
from corral_broker.command import broker as broker_command
from corral_broker.net.ipc_files import IpcFiles
from corral_broker.state.addresses import BindError, parse_bind
from corral_testkit.wire_peers import RawClient

Start = Callable[..., BrokerProcess]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """A broker that is expected to end by itself."""
    return subprocess.run([sys.executable, "-m", "corral_broker", *arguments], capture_output=True, text=True, timeout=20)


def test_it_is_found_as_a_command_of_corral() -> None:
    [found] = entry_points(group="corral.commands", name="broker")
    assert found.load() is broker_command


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_leaves_no_file(start_broker: Start, short_dir: Path, number: int) -> None:
    broker = start_broker("--bind", f"ipc://{short_dir}/run/b")
    with RawClient(broker.address) as client:
        client.hello()
        assert broker.end(number)[0] == 0
    assert list((short_dir / "run").iterdir()) == []


def test_its_directory_and_sockets_are_for_its_owner_only(start_broker: Start, short_dir: Path) -> None:
    start_broker("--bind", f"ipc://{short_dir}/run/b")
    assert stat.S_IMODE((short_dir / "run").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (short_dir / "run").iterdir()}
    assert modes == dict.fromkeys(["b", "b.w", "b.ei", "b.eo", "b.si", "b.so", "b.lock"], 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_root_keeps_no_state_in_a_directory_of_another_user(short_dir: Path) -> None:
    (short_dir / "state").mkdir(mode=0o700)
    os.chown(short_dir / "state", 4242, 4242)
    done = run("--bind", f"ipc://{short_dir}/run/b", "--state-dir", f"{short_dir}/state")
    assert (done.returncode, done.stdout) == (1, "") and "belongs to user 4242, who could change" in done.stderr
    assert not list((short_dir / "state").iterdir())


def test_the_ready_line_is_json_when_asked_for(short_dir: Path) -> None:
    command = [sys.executable, "-m", "corral_broker", "--bind", f"ipc://{short_dir}/b", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"ready": f"ipc://{short_dir}/b", "pid": process.pid}
        process.terminate()
        assert process.wait(20) == 0


def test_the_address_of_a_live_broker_is_refused_with_its_pid_and_a_dead_ones_is_taken_over(start_broker: Start, short_dir: Path) -> None:
    first = start_broker("--bind", f"ipc://{short_dir}/b")
    refused = run("--bind", first.address)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"address in use: a broker with pid {first.process.pid}" in refused.stderr
    with RawClient(first.address) as client:
        client.hello()
    first.end(signal.SIGKILL)
    with RawClient(start_broker("--bind", first.address).address) as client:
        client.hello()


def test_tcp_without_keys_is_refused_unless_insecure_is_typed_and_then_said(start_broker: Start) -> None:
    refused = run("--bind", "tcp://127.0.0.1:0")
    assert refused.returncode == 1
    assert "--insecure" in refused.stderr
    assert "insecure" in start_broker("--bind", "tcp://127.0.0.1:0", "--insecure").end()[1]


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = run("--bind", f"tcp://127.0.0.1:{taken.getsockname()[1]}", "--insecure", "--json")
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["error"]["message"].startswith("address in use: tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("tcp://127.0.0.1", "bad address"),
        ("tcp://:7700", "bad address"),
        ("tcp://h:70000", "bad address"),
        ("tcp://127.0.0.1:65531", "the highest is 65535"),
        ("udp://127.0.0.1:1", "bad address"),
        ("127.0.0.1:7700", "bad address"),
        ("ipc://", "bad address"),
        ("ipc://@abstract", "bad address"),
        ("ipc://*", "bad address"),
        ("ipc:///" + "x" * 104, "path too long"),
        ("ipc:///tmp/" + "é" * 50, "path too long"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_with_the_reason(address: str, reason: str) -> None:
    with pytest.raises(BindError, match=reason):
        parse_bind(address)


def test_the_longest_path_that_fits_is_served(start_broker: Start, short_dir: Path) -> None:
    path = f"{short_dir}/".ljust(104, "x")
    with RawClient(start_broker("--bind", f"ipc://{path}").address) as client:
        client.hello()


@pytest.mark.parametrize("address", ["tcp://203.0.113.7:7700", "tcp://no-such-host.invalid:7700"])
def test_a_host_that_is_not_here_is_refused_in_one_line(address: str) -> None:
    refused = run("--bind", address, "--insecure")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert address in refused.stderr


def test_an_ipv6_address_is_served(start_broker: Start) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    assert start_broker("--bind", "tcp://[::1]:0", "--insecure").address.startswith("tcp://[::1]:")


def test_a_file_that_is_not_a_socket_is_left_alone(short_dir: Path) -> None:
    precious = short_dir / "b.w"
    precious.write_text("precious")
    with pytest.raises(BindError, match="not a socket"):
        IpcFiles(str(short_dir / "b"))
    assert [path.name for path in short_dir.iterdir()] == ["b.w"]
    assert precious.read_text() == "precious"


def test_a_socket_somebody_else_listens_at_is_left_alone(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(short_dir / "b.eo"))
        other.listen()
        with pytest.raises(BindError, match="something listens"):
            IpcFiles(str(short_dir / "b"))
        assert (short_dir / "b.eo").exists()


def test_a_directory_that_cannot_be_made_is_refused_in_one_line(short_dir: Path) -> None:
    (short_dir / "file").touch()
    refused = run("--bind", f"ipc://{short_dir}/file/b")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    refused = run("--bind", f"ipc://{short_dir}/b", "--state-dir", f"{short_dir}/file/state")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert [path.name for path in short_dir.iterdir()] == ["file"]
