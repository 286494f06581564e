"""Command lines of the runtime."""

from __future__ import annotations

from pathlib import Path

from corral_worker.runtime.runc import Runtime, is_plain_runc

RUNTIME = Runtime("/usr/sbin/runc", Path("/run/g1/runc"))
LOG = Path("/state/log")
GLOBAL = ["/usr/sbin/runc", "--root", "/run/g1/runc", "--log", "/state/log", "--log-format", "json"]


def test_every_verb_names_its_root_and_logs_json() -> None:
    assert RUNTIME.start("i1", LOG) == [*GLOBAL, "start", "i1"]
    assert RUNTIME.pause("i1", LOG) == [*GLOBAL, "pause", "i1"]
    assert RUNTIME.resume("i1", LOG) == [*GLOBAL, "resume", "i1"]
    assert RUNTIME.delete("i1", LOG) == [*GLOBAL, "delete", "i1"]
    assert RUNTIME.delete("i1", LOG, force=True) == [*GLOBAL, "delete", "--force", "i1"]
    assert RUNTIME.update("i1", Path("/r.json"), LOG) == [*GLOBAL, "update", "--resources", "/r.json", "i1"]


def test_create_and_run_leave_a_pid_and_take_a_console_socket_only_with_a_tty() -> None:
    places = ["--bundle", "/b", "--pid-file", "/p"]
    assert RUNTIME.create("i1", Path("/b"), Path("/p"), LOG, None) == [*GLOBAL, "create", *places, "i1"]
    assert RUNTIME.run("i1", Path("/b"), Path("/p"), LOG, None) == [*GLOBAL, "run", "--detach", *places, "i1"]
    console = ["--console-socket", "/c"]
    assert RUNTIME.create("i1", Path("/b"), Path("/p"), LOG, Path("/c")) == [*GLOBAL, "create", *places, *console, "i1"]


def test_exec_is_detached_and_takes_its_process_from_a_file() -> None:
    expected = [*GLOBAL, "exec", "--detach", "--process", "/x.json", "--pid-file", "/p", "i1"]
    assert RUNTIME.exec("i1", Path("/x.json"), Path("/p"), LOG, None) == expected


def test_further_arguments_of_the_runtime_come_first() -> None:
    crun = Runtime("crun", Path("/r"), ("--cgroup-manager=disabled",))
    assert crun.start("i1", LOG)[:4] == ["crun", "--cgroup-manager=disabled", "--root", "/r"]


def test_plain_runc_is_a_binary_that_says_so_and_makes_its_cgroups_itself(tmp_path: Path) -> None:
    binary, script = tmp_path / "binary", tmp_path / "script"
    binary.write_bytes(b"\x7fELF and more")
    script.write_text("#!/bin/sh\nexec runc\n")
    assert is_plain_runc(binary, "runc version 1.1.5", ())
    assert not is_plain_runc(binary, "runc version 1.1.5", ("--systemd-cgroup",))
    assert not is_plain_runc(binary, "crun version 1.8", ())
    assert not is_plain_runc(script, "runc version 1.1.5", ())
