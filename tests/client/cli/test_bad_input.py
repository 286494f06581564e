"""What a person or a script can do wrong with a running fleet: bytes that are no text, output that nobody takes."""

import os
import subprocess

import pytest

from corral_testkit.cli import CORRAL, Up

pytestmark = pytest.mark.runc


def corral_bytes(up: Up, *args: str | bytes, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    argv = [os.fsencode(part) for part in (*CORRAL, *args)]
    return subprocess.run(argv, capture_output=True, env={**up.environment, **environment}, timeout=30, check=False)


def test_any_text_goes_through_arguments_variables_and_output(up: Up) -> None:
    done = up.run("--rm", "-e", "A=käse 🧀", "--", "sh", "-c", 'printf "%s|%s" "$A" "$1"', "sh", "grün\t☃\n'\"\\")
    assert (done.returncode, done.stdout) == (0, "käse 🧀|grün\t☃\n'\"\\")


def test_any_bytes_come_out_as_they_are(up: Up) -> None:
    every = "".join(f"\\{byte:03o}" for byte in range(256))
    done = corral_bytes(up, "run", "--rm", "-g", "g1", "--rootfs", str(up.rootfs), "--", "printf", every)
    assert (done.returncode, done.stdout) == (0, bytes(range(256)))


@pytest.mark.parametrize(
    "args",
    [
        ["run", "-g", "g1", "--rootfs", "/r", "--", "printf", b"a\xff"],
        ["run", "-g", "g1", "--rootfs", "/r", "-e", b"A=\xff", "--", "env"],
        ["run", "-d", "-g", "g1", "--rootfs", "/r", "--name", b"\xff", "--", "true"],
        ["run", "-g", "g1", "--rootfs", b"/\xff", "--", "true"],
        ["exec", "g1/x", "--", b"\xff"],
        ["logs", b"g1/\xff"],
        ["info", b"\xff"],
        ["ps", "--select", b"\xff"],
        ["events", "--no-follow", "--guest", b"\xff"],
        ["batch", "run", "--rootfs", "/r", "--", b"\xff"],
        ["update", "--resources", '{"pids": {"limit": 99999999999999999999999}}', "g1/x"],
    ],
)
def test_what_no_message_can_carry_is_said_in_a_line(up: Up, args: list[str | bytes]) -> None:
    done = corral_bytes(up, *args)
    assert done.returncode in (1, 2, 125, 255)
    assert done.stdout == b""
    assert done.stderr.startswith(b"corral: ")
    assert done.stderr.count(b"\n") <= 2
    assert b"Traceback" not in done.stderr


def test_control_characters_in_a_command_never_reach_the_terminal(up: Up) -> None:
    path = up.background("sh", "-c", "sleep 60 # \x1b[31mred\x07\r", flags=("--name", "colourful"))
    for args in (["ps", "--format", "table"], ["processes", "--format", "table", path], ["events", "--no-follow", "--format", "table"]):
        shown = corral_bytes(up, *args, COLUMNS="300").stdout
        assert b"colourful" in shown or b"sleep" in shown
        assert not {byte for byte in shown if byte < 32} - {10}, shown
    up.corral("rm", "-f", path)


def test_text_is_utf_8_whatever_the_locale_says(up: Up) -> None:
    path = up.background("sh", "-c", "sleep 60 # ☃", flags=("--name", "snow"))
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "200"}
    for form in ("table", "json"):
        done = corral_bytes(up, "ps", "--format", form, **latin)
        assert (done.returncode, done.stderr) == (0, b"")
        assert "☃".encode() in done.stdout
    up.corral("rm", "-f", path)


@pytest.mark.parametrize("args", ["guests --format table", "guests --format json", "events --no-follow", "info"])
def test_output_that_cannot_be_written_is_said_in_a_line(up: Up, args: str) -> None:
    argv = [*CORRAL, *args.split(" ")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, env=up.environment, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, b"corral: output: No space left on device\n")


@pytest.mark.parametrize("args", ["guests --format table", "ps --json", "events --no-follow", "--help", "ps --help"])
def test_a_reader_that_is_gone_already_ends_a_command_quietly(up: Up, args: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        argv = [*CORRAL, *args.split(" ")]
        done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, env=up.environment, timeout=30, check=False)
    finally:
        os.close(writing)
    assert done.returncode in (0, 1, 141)
    assert done.stderr == b""


@pytest.mark.parametrize("command", [["logs"], ["stop"], ["exec"], ["inspect"]])
def test_a_mistyped_name_brings_the_nearest_with_its_guest_or_without(up: Up, command: list[str]) -> None:
    path = up.background("sleep", "60", flags=("--name", "database"))
    for wrong in ("g1/databsae", "databsae"):
        done = up.corral(*command, wrong, *(["--", "true"] if command == ["exec"] else []))
        assert done.returncode in (1, 125)
        assert "database" in done.stderr.splitlines()[-1]
        assert "did you mean" in done.stderr
    up.corral("rm", "-f", path)
