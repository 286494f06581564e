"""Docker's flags as a spec."""

from pathlib import Path
from typing import Any

import click
import pytest

from corral.cli.commands.update import limits
from corral.cli.fleet.container_options import ContainerOptions, mount, variables
from corral_schemas.containers import ContainerSpec, Mount

PLAIN: dict[str, Any] = {
    "guest": "", "rootfs": "/r", "image": "", "bundle": "", "name": None, "interactive": False, "tty": False, "env": (), "env_file": (),
    "workdir": "",
    "user": "", "volumes": (), "memory": None, "cpus": None, "pids_limit": None, "network": None, "entrypoint": None, "hostname": "",
    "writable": None, "overlay": False, "args": ("sh", "-c", "true"),
}  # fmt: skip


def test_without_flags_the_spec_is_plain() -> None:
    assert ContainerOptions(**PLAIN).spec() == ContainerSpec(rootfs="/r", args=["sh", "-c", "true"])


def test_every_flag_has_its_field() -> None:
    made = ContainerOptions(
        **{
            **PLAIN, "env": ("A=1", "B=x=y"), "workdir": "/w", "user": "1:2", "volumes": ("/a:/b", "/c:/d:ro"), "memory": 64 << 20,
            "cpus": 0.5, "pids_limit": 9, "network": "host", "hostname": "h", "writable": True,
        }
    )  # fmt: skip
    assert made.spec() == ContainerSpec(
        rootfs="/r", args=["sh", "-c", "true"], env=["A=1", "B=x=y"], cwd="/w", user="1:2",
        mounts=[Mount(source="/a", destination="/b"), Mount(source="/c", destination="/d", readonly=True)],
        memory_bytes=64 << 20, cpus=0.5, pids_limit=9, network="host", hostname="h", writable=True,
    )  # fmt: skip


def test_files_of_variables_are_read_as_docker_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "of ours")
    monkeypatch.delenv("NOT_OURS", raising=False)
    content = "\ufeffFIRST=1\r\n  # a comment\n\t LED=by blanks \n\nQUOTED='as it is' # too\nLINE=a\u2028b\x0bc\nOURS\nNOT_OURS\n"
    content += "EMPTY=\nTWICE=a=b"
    (tmp_path / "env").write_bytes(content.encode())
    assert variables(["LAST=1"], [tmp_path / "env"]) == [
        *("FIRST=1", "LED=by blanks ", "QUOTED='as it is' # too", "LINE=a\u2028b\x0bc", "OURS=of ours", "EMPTY=", "TWICE=a=b", "LAST=1")
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"A=1\n\xff=2\n", "line 2: not UTF-8"), (b"=1\n", "line 1: no name"), (b"\nA B=1\n", "line 2: the name 'A B' has a blank")],
)
def test_a_file_of_variables_that_is_wrong_is_refused_with_its_line(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "env").write_bytes(content)
    with pytest.raises(click.UsageError, match=why):
        variables([], [tmp_path / "env"])


@pytest.mark.parametrize(
    ("given", "overlay", "writable"),
    [
        ({}, True, False),
        ({"writable": False}, False, False),
        ({"writable": True}, True, True),
        ({"overlay": True}, True, False),
    ],
)
def test_an_image_is_written_to_in_a_layer_unless_it_is_read_only(given: dict[str, bool], overlay: bool, writable: bool) -> None:
    made = ContainerOptions(**{**PLAIN, "rootfs": "", "image": "web:1.2", "args": (), **given})
    made.check()
    assert made.spec() == ContainerSpec(image="web:1.2", overlay=overlay, writable=writable)


def test_an_entrypoint_given_takes_the_place_of_the_images() -> None:
    spec = ContainerOptions(**{**PLAIN, "rootfs": "", "image": "web", "entrypoint": "/bin/sh"}).spec()
    assert spec == ContainerSpec(image="web", entrypoint=["/bin/sh"], args=["sh", "-c", "true"], overlay=True)


@pytest.mark.parametrize(
    "given",
    [
        {"image": "web"},
        {"rootfs": "", "image": "no such@name"},
        {"rootfs": "", "image": "web@sha256:1"},
        {"entrypoint": "/bin/sh"},
        {"overlay": True, "writable": False},
    ],
)
def test_what_does_not_go_together_is_wrong_usage(given: dict[str, object]) -> None:
    with pytest.raises(click.UsageError):
        ContainerOptions(**{**PLAIN, **given}).check()


def test_a_bundle_says_everything_itself() -> None:
    made = ContainerOptions(**{**PLAIN, "rootfs": "", "bundle": "/b", "args": ()})
    made.check()
    assert made.spec() is None


def test_a_variable_without_a_value_takes_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINE", "from here")
    monkeypatch.delenv("NOT_MINE", raising=False)
    file = tmp_path / "env"
    file.write_text("# words\n\nF=file\nMINE\n")
    assert variables(["A=", "MINE", "NOT_MINE"], [file]) == ["F=file", "MINE=from here", "A=", "MINE=from here"]


@pytest.mark.parametrize("text", ["a", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:z", ":"])
def test_a_mount_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="is not SRC:DST"):
        mount(text)


def test_limits_are_oci_resources() -> None:
    assert limits(1 << 20, 0.5, -1) == {
        "memory": {"limit": 1 << 20, "swap": 1 << 20},
        "cpu": {"quota": 50_000, "period": 100_000},
        "pids": {"limit": -1},
    }
