"""Bad input to a live broker and worker: each answered with its code, at once, and both serve on."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral import ContainerSpec, CorralError, OciProcess
from corral.sync.guest import Guest
from corral_schemas.base import Message
from corral_schemas.commands import ContainerTarget, CreateArgs, ExecArgs, KillArgs, RunArgs
from corral_schemas.errors import TABLE
from corral_schemas.exits import start_failure_status
from corral_schemas.frames import CommandHeader, decode_reply, pack
from corral_schemas.limits import FRAME_BYTES_MAX, HEADER_BYTES_MAX
from corral_schemas.queries import InfoReply, Nothing
from corral_testkit.system import CorralSystem
from corral_testkit.wire_peers import PeerTimeoutError, RawClient

pytestmark = pytest.mark.runc

START_FAILURE_S = 1.0
"""A program that cannot be started is told within this."""


@pytest.fixture
def guest(corral: CorralSystem) -> Guest:
    return corral.client().guest(corral.names[0])


@pytest.fixture
def raw(corral: CorralSystem) -> Iterator[RawClient]:
    """A client that sends whatever it is told. Afterwards broker and worker must serve as before."""
    with RawClient(corral.address, timeout_s=5.0) as client:
        yield client
    with RawClient(corral.address) as asker:
        assert isinstance(asker.call("info", Nothing()), InfoReply)
        about = asker.call("info", Nothing(), corral.names[0])
    assert isinstance(about, InfoReply) and about.kind == "worker"
    assert corral.broker.alive and corral.workers[corral.names[0]].alive


def refused(work: Callable[[], object]) -> CorralError:
    with pytest.raises(CorralError) as failure:
        work()
    assert failure.value.hresult < 0
    return failure.value


# -- ids -------------------------------------------------------------------------------------------------------------------------

BAD_IDS = ["", ".", "..", "a/b", "../x", "a b", "a\n", "ä", "a\0b", "x" * 129, "a:b", "$(x)", "a*"]


@pytest.mark.parametrize("name", BAD_IDS)
def test_a_container_id_outside_the_rule_is_refused(corral: CorralSystem, raw: RawClient, name: str) -> None:
    args = CreateArgs(container=name, spec=corral.spec("true"))
    assert refused(lambda: raw.call("create", args, corral.names[0])).code == "invalid_container_id"


@pytest.mark.parametrize("name", BAD_IDS)
def test_a_process_id_outside_the_rule_is_refused(corral: CorralSystem, raw: RawClient, name: str) -> None:
    args = ExecArgs(container="c", process=name, spec=OciProcess(args=["true"]))
    assert refused(lambda: raw.call("exec", args, corral.names[0])).code == "invalid_container_id"


@pytest.mark.parametrize("name", ["a", "A-z_0+9.x", "..a", "x" * 128])
def test_an_id_at_the_edge_of_the_rule_is_fine(guest: Guest, corral: CorralSystem, name: str) -> None:
    container = guest.run(name, spec=corral.spec("sh", "-c", "exit 3"))
    assert container.wait().code == 3
    assert container.state().id == name


def test_init_is_no_id_for_an_exec(guest: Guest, corral: CorralSystem) -> None:
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    assert refused(lambda: container.exec(["true"], process="init")).code == "process_already_exists"


@pytest.mark.parametrize("op", ["state", "start", "kill", "pause", "wait", "read_stdio", "delete"])
def test_an_id_that_could_never_exist_is_simply_not_found(corral: CorralSystem, raw: RawClient, op: str) -> None:
    assert refused(lambda: raw.call(op, _Stdout(container="../../etc"), corral.names[0])).code == "container_not_found"


class _Stdout(Message, frozen=True, kw_only=True):
    """Arguments that fit every op that names a container."""

    container: str
    stdout: int = 0


# -- bundles and programs ----------------------------------------------------------------------------------------------------------


def spoilt(bundle: Path, how: str) -> Path:
    """The bundle, with that wrong with it."""
    config = bundle / "config.json"
    content = json.loads(config.read_text())
    match how:
        case "without config.json":
            config.unlink()
        case "with broken JSON":
            config.write_text("{")
        case "without rootfs":
            config.write_text(json.dumps({**content, "root": {"path": "nowhere"}}))
        case "without args":
            config.write_text(json.dumps({**content, "process": {**content["process"], "args": []}}))
        case "with wrong types":
            config.write_text(json.dumps({**content, "mounts": {"not": "a list"}}))
        case "with a missing mount":
            mount = {"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}
            config.write_text(json.dumps({**content, "mounts": [mount]}))
    return bundle


BAD_BUNDLES = ["without config.json", "with broken JSON", "without rootfs", "without args", "with wrong types", "with a missing mount"]


@pytest.mark.parametrize("how", BAD_BUNDLES)
def test_a_bad_bundle_is_refused_and_leaves_nothing(corral: CorralSystem, guest: Guest, bundle_dir: Callable[..., Path], how: str) -> None:
    bundle = spoilt(bundle_dir("true"), how)
    began_s = time.monotonic()
    assert refused(lambda: guest.create("c", bundle=str(bundle))).code == "bundle_invalid"
    assert time.monotonic() - began_s < START_FAILURE_S
    assert guest.list().containers == []
    run_dir = corral.run_dir(corral.names[0])
    assert list((run_dir / "runc").iterdir()) == []
    assert list((run_dir / "s").glob("*.tty")) == []


PROGRAMS = {
    "nosuch": ("command_not_found", 127),
    "/no/such": ("command_not_found", 127),
    "/etc/passwd": ("command_not_executable", 126),
    "/etc": ("command_not_executable", 126),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("way", ["create", "run", "exec"])
def test_a_program_that_cannot_be_started_is_told_in_under_a_second(
    corral: CorralSystem, guest: Guest, bundle_dir: Callable[..., Path], program: str, way: str
) -> None:
    running = guest.run("running", spec=corral.spec("sleep", "1000")) if way == "exec" else None
    bundle = str(bundle_dir(program))
    ways: dict[str, Callable[[], object]] = {
        "create": lambda: guest.create("c", bundle=bundle),
        "run": lambda: guest.run("c", spec=corral.spec(program)),
        "exec": lambda: running and running.exec([program], process="x"),
    }
    began_s = time.monotonic()
    failure = refused(ways[way])
    assert time.monotonic() - began_s < START_FAILURE_S
    assert (failure.code, start_failure_status(failure.code)) == PROGRAMS[program]
    assert program in failure.message
    if running is not None:
        assert [one.process for one in running.state().processes] == ["init"]
        assert running.exec(["true"], process="x").wait().code == 0  # the id is free
    else:
        assert guest.list().containers == []
        assert guest.run("c", spec=corral.spec("true")).wait().code == 0  # the name is free


@pytest.mark.guarantee(18)
@pytest.mark.parametrize(
    ("oci", "code"),
    [
        ({"cwd": "/no/such"}, "bad_request"),
        ({"capabilities": "all of them"}, "bad_request"),
        ({"rlimits": [{"type": "RLIMIT_NO_SUCH", "hard": 1, "soft": 1}]}, "runtime_failed"),
    ],
)
def test_an_exec_that_the_runtime_refuses_says_why(guest: Guest, corral: CorralSystem, oci: dict[str, Any], code: str) -> None:
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    failure = refused(lambda: container.exec(["true"], oci=oci))
    assert failure.code == code
    assert len(failure.message) > 10


def test_an_exec_s_members_are_spelt_as_the_specification_does(guest: Guest, corral: CorralSystem) -> None:
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    failure = refused(lambda: container.exec(["true"], oci={"Capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}))
    assert failure.code == "bad_request" and "'process.Capabilities' is spelt 'capabilities'" in failure.message


def test_with_allowed_roots_an_exec_gets_nothing_beyond_dockers_default(new_corral: Callable[..., CorralSystem], rootfs: Path) -> None:
    beyond = {"capabilities": {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}}
    for more, code in (([], "unauthorized"), (["--allow-privileged"], "")):
        system = new_corral(1, worker_options=["--allow-root", str(rootfs), *more])
        container = system.client().guest(system.names[0]).run("c", spec=system.spec("sleep", "1000"))
        assert container.run(["echo", "plain"]).stdout == b"plain\n"
        if code:
            assert refused(lambda made=container: made.exec(["true"], oci=beyond)).code == code  # type: ignore[misc]
        else:
            assert container.exec(["true"], oci=beyond).wait().code == 0


@pytest.mark.parametrize(("resources", "code"), [({"memory": "much"}, "bad_request"), ({"pids": {"limit": "few"}}, "bad_request")])
def test_resources_that_cannot_be_read_are_a_bad_request(guest: Guest, corral: CorralSystem, resources: Any, code: str) -> None:
    container = guest.run("c", spec=corral.spec("sleep", "1000"))
    assert refused(lambda: container.update(resources)).code == code
    assert container.state().status == "running"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"user": "nobody-here"}, "bad_request"),
        ({"mounts": [{"source": "/no/such", "destination": "/x"}]}, "bad_request"),
        ({"rootfs": "/no/such"}, "bundle_invalid"),
        ({"rootfs": "relative"}, "bundle_invalid"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(guest: Guest, corral: CorralSystem, change: dict[str, Any], code: str) -> None:
    spec = msgspec.convert({"rootfs": str(corral.rootfs), "args": ["true"], **change}, ContainerSpec)
    assert refused(lambda: guest.run("c", spec=spec)).code == code
    assert guest.list().containers == []


# -- messages ----------------------------------------------------------------------------------------------------------------------


def sent(raw: RawClient, *frames: bytes) -> str:
    """Sends raw frames; the code of the answer."""
    raw.socket.send_multipart(frames)
    _, body = decode_reply(raw.receive(raw.socket))
    assert body.error is not None
    assert body.error.code in TABLE
    return body.error.code


def header(corral: CorralSystem, op: str = "state", **fields: Any) -> bytes:
    return pack(CommandHeader(id=secrets.token_hex(8), guest=corral.names[0], op=op, timeout_ms=5_000, **fields))


def test_an_op_nobody_knows_and_one_that_is_not_for_guests(corral: CorralSystem, raw: RawClient) -> None:
    assert sent(raw, header(corral, "no_such_op"), pack({})) == "unsupported_op"
    assert sent(raw, header(corral, "guests"), pack({})) == "unsupported_op"


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("state", {}),
        ("state", {"container": 7}),
        ("state", []),
        ("state", None),
        ("kill", {"container": "c", "signal": -1}),
        ("kill", {"container": "c", "signal": 65}),
        ("kill", {"container": "c", "signal": "TERM"}),
        ("create", {"container": "c"}),
        ("create", {"container": "c", "spec": {"rootfs": "/", "args": []}}),
        ("create", {"container": "c", "bundle": "/b", "stdio": {"rows": 1 << 20}}),
        ("exec", {"container": "c", "process": "p"}),
        ("read_stdio", {"container": "c", "stdout": -1}),
        ("wait", {"container": "c", "timeout_ms": 1 << 40}),
        ("write_stdin", {"container": "c", "offset": 0, "data": "text"}),
    ],
)
def test_arguments_of_a_wrong_shape_are_a_bad_request(corral: CorralSystem, raw: RawClient, op: str, args: Any) -> None:
    assert sent(raw, header(corral, op), pack(args)) == "bad_request"


def test_fields_nobody_knows_are_ignored(corral: CorralSystem, raw: RawClient) -> None:
    head = msgspec.msgpack.decode(header(corral, "run"))
    args = {"container": "c", "spec": {"rootfs": str(corral.rootfs), "args": ["true"], "colour": "red"}, "tomorrow": {"x": [1]}}
    raw.socket.send_multipart([pack({**head, "new": 1}), pack(args)])
    _, body = decode_reply(raw.receive(raw.socket))
    assert body.error is None


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_of_the_protocol_is_refused(corral: CorralSystem, raw: RawClient, version: int) -> None:
    assert sent(raw, header(corral, v=version), pack({})) == "unsupported_version"


def test_frames_too_few_too_many_too_large_or_no_msgpack_are_answered_or_dropped(corral: CorralSystem, raw: RawClient) -> None:
    good, args = header(corral), pack(ContainerTarget(container="c"))
    assert sent(raw, good) == "bad_request"
    assert sent(raw, good, args, b"") == "bad_request"
    assert sent(raw, good, *[args] * 20) == "bad_request"
    assert sent(raw, good, b"\xc1") == "bad_request"
    assert sent(raw, good, args + b"\0") == "bad_request"
    assert sent(raw, good, args[:-1]) == "bad_request"
    nameless = ([b"\xc1", args], [b"", b""], [b""], [os.urandom(500), os.urandom(500)], [good + b" " * HEADER_BYTES_MAX, args])
    for frames in nameless:  # nobody can be answered without a request id
        raw.socket.send_multipart(frames)
    with pytest.raises(PeerTimeoutError):
        raw.receive(raw.socket, 0.3)


def test_a_frame_over_the_limit_is_answered_and_one_far_over_it_ends_its_connection(corral: CorralSystem, raw: RawClient) -> None:
    assert sent(raw, header(corral), bytes(FRAME_BYTES_MAX + 1)) == "message_too_large"
    raw.socket.send_multipart([header(corral), bytes(4 * FRAME_BYTES_MAX)])
    with pytest.raises(PeerTimeoutError):
        raw.receive(raw.socket, 0.3)


def test_arguments_up_to_the_limit_arrive(corral: CorralSystem, raw: RawClient) -> None:
    big = ContainerSpec(rootfs=str(corral.rootfs), args=["true"], env=["A=" + "x" * 100_000] * 20)
    reply = raw.call("run", RunArgs(container="big", spec=big), corral.names[0])
    assert reply


@pytest.mark.parametrize("request_id", ["new\nline", "ä", " \t"])
def test_a_request_id_must_be_printable(corral: CorralSystem, raw: RawClient, request_id: str) -> None:
    head = msgspec.msgpack.decode(header(corral))
    assert sent(raw, pack({**head, "id": request_id}), pack(ContainerTarget(container="c"))) == "bad_request"


def test_an_unknown_guest_is_told_at_once_with_the_nearest(corral: CorralSystem, raw: RawClient) -> None:
    began_s = time.monotonic()
    failure = refused(lambda: raw.call("state", ContainerTarget(container="c"), corral.names[0] + "x"))
    assert failure.code == "guest_unreachable"
    assert time.monotonic() - began_s < 0.5
    assert corral.names[0] in str(failure.details) + failure.message


def test_a_process_nobody_started_is_not_found(guest: Guest, corral: CorralSystem, raw: RawClient) -> None:
    guest.run("c", spec=corral.spec("sleep", "1000"))
    for op in ("kill", "wait", "read_stdio"):
        args = {"container": "c", "process": "nobody", "stdout": 0}
        assert sent(raw, pack(CommandHeader(id=op, guest=guest.name, op=op, timeout_ms=5_000)), pack(args)) == "process_not_found"
    assert refused(lambda: raw.call("kill", KillArgs(container="c", process="init", process_instance="0" * 26), guest.name)).code == (
        "process_not_found"
    )
