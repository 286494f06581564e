"""`corral worker install`: the files that make a worker a service."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral_worker.command import worker

KEY = "k" * 40
DROP_IN = "etc/systemd/system/corral-worker@vm-7.service.d/guest.conf"


def install(root: Path, *more: str) -> Result:
    return CliRunner().invoke(worker, ["install", "--root", str(root), "--guest", "vm-7", "--broker", "tcp://10.0.0.1:7700", *more])


def test_units_key_token_and_command_line_are_written_and_the_units_enabled(tmp_path: Path) -> None:
    given = tmp_path / "vm-7.token"
    given.touch(mode=0o600)
    given.write_text("c4k7\n")
    done = install(tmp_path, "--server-key", KEY, "--token-file", str(given), "--label", "zone=a", "--worker-option=--allow-root=/srv")
    assert done.exit_code == 0, done.output
    token = tmp_path / "var/lib/corral/vm-7/enrolment.token"
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == ("c4k7\n", 0o600)
    assert f'public = "{KEY}"' in (tmp_path / "etc/corral/vm-7/broker.public").read_text()
    command = (tmp_path / DROP_IN).read_text().splitlines()[-1]
    assert command.startswith("ExecStart=/") and "/corral worker --guest vm-7 --zygote unit --broker tcp://10.0.0.1:7700" in command
    assert command.endswith(
        "--server-key /etc/corral/vm-7/broker.public --token-file /var/lib/corral/vm-7/enrolment.token --label zone=a --allow-root=/srv"
    )
    for name in ("corral-zygote@", "corral-worker@"):
        enabled = tmp_path / f"etc/systemd/system/multi-user.target.wants/{name}vm-7.service"
        assert str(enabled.readlink()) == f"/etc/systemd/system/{name}.service"
        assert "/opt/corral/bin/corral" not in (tmp_path / f"etc/systemd/system/{name}.service").read_text()


def test_a_token_is_taken_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    given = tmp_path / "vm-7.token"
    given.write_text("c4k7\n")
    given.chmod(0o640)
    done = install(tmp_path / "root", "--server-key", KEY, "--token-file", str(given))
    assert done.exit_code == 1 and f"its mode 0640 opens it to more than its owner: chmod 600 {given}" in done.output
    assert not (tmp_path / "root").exists()
    assert install(tmp_path, "--server-key", KEY, "--token", "c4k7").exit_code == 2, "every user of a guest reads command lines"


def test_installing_again_replaces_what_was_there(tmp_path: Path) -> None:
    install(tmp_path, "--insecure", "--label", "zone=a")
    done = install(tmp_path, "--insecure", "--label", "zone=b")
    assert done.exit_code == 0, done.output
    assert "zone=b" in (tmp_path / DROP_IN).read_text() and "zone=a" not in (tmp_path / DROP_IN).read_text()


def test_systemd_takes_every_character_literally(tmp_path: Path) -> None:
    install(tmp_path, "--insecure", "--label", 'motto=50% of $HOME, "so\\to" say')
    assert r'--label "motto=50%% of $$HOME, \"so\\to\" say"' in (tmp_path / DROP_IN).read_text()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "TCP needs the broker's public key: give --server-key"),
        (["--server-key", "/no/such/file"], "--server-key /no/such/file: No such file or directory"),
        (["--server-key", "!" * 39], "No such file or directory"),
        (["--insecure", "--label", "nonsense"], "label 'nonsense' is not K=V"),
        (["--insecure", "--guest", "a b"], "guest"),
    ],
)
def test_what_cannot_be_installed_is_said_and_nothing_is_written(tmp_path: Path, more: list[str], said: str) -> None:
    done = install(tmp_path / "root", *more)
    assert (done.exit_code, "corral worker install: " in done.output, said in done.output) == (1, True, True), done.output
    assert not (tmp_path / "root" / "etc" / "systemd").exists()


def test_a_unit_that_is_a_link_is_written_through_and_a_masked_one_refused(tmp_path: Path) -> None:
    install(tmp_path, "--insecure")
    (drop_in, kept) = (tmp_path / DROP_IN, tmp_path / "kept.conf")
    drop_in.rename(kept)
    drop_in.symlink_to(kept)
    assert install(tmp_path, "--insecure", "--label", "zone=b").exit_code == 0
    assert drop_in.is_symlink() and "zone=b" in kept.read_text()
    drop_in.unlink()
    drop_in.symlink_to("/dev/null")
    done = install(tmp_path, "--insecure")
    assert done.exit_code == 1 and "systemctl unmask" in done.output and drop_in.is_symlink()
    drop_in.unlink()
    drop_in.symlink_to(tmp_path.parent / "elsewhere")
    done = install(tmp_path, "--insecure")
    assert done.exit_code == 1 and "leads out of" in done.output and not (tmp_path.parent / "elsewhere").exists()


def test_where_systemd_does_not_run_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from corral_worker import install as module

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(module.InstallError, match="systemd does not run here"):
        module.start_units("vm-7")
