"""Contexts: brokers by name, in a file that people edit too."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.cli.main import corral
from corral_testkit.cli import Up


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where config.toml will be."""
    monkeypatch.delenv("CORRAL_BROKER", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "corral" / "config.toml"


def corral_says(*args: str) -> Result:
    return CliRunner().invoke(corral, list(args))


def names() -> dict[str, bool]:
    return {one["name"]: one["current"] for one in map(json.loads, corral_says("context", "list").stdout.splitlines())}


def test_contexts_are_added_used_shown_and_removed(config: Path) -> None:
    assert corral_says("context", "list").stdout == ""
    assert corral_says("context", "add", "a", "ipc:///run/a").exit_code == 0
    assert corral_says("context", "add", "b", "tcp://b:1,tcp://c:1", "--key", "k", "--server-key", "K" * 40, "--use").exit_code == 0
    assert names() == {"a": False, "b": True}
    shown = json.loads(corral_says("context", "show").stdout)
    assert shown == {"name": "b", "current": True, "broker": "tcp://b:1,tcp://c:1", "key": "k", "server_key": "K" * 40}
    assert corral_says("context", "use", "a").exit_code == 0
    assert names() == {"a": True, "b": False}
    assert corral_says("context", "rm", "a").exit_code == 0
    assert names() == {"b": False}
    assert corral_says("context", "show").exit_code == 1
    assert config.stat().st_mode & 0o777 == 0o600


def test_what_a_person_wrote_into_the_file_stays(config: Path) -> None:
    config.parent.mkdir()
    config.write_text('# mine\ncurrent = "x"  # for now\n\n[contexts.x]\nbroker = ["tcp://x:1", "tcp://y:1"]\nnote = "ask Ann"\n')
    assert corral_says("context", "add", "z", "tcp://z:1").exit_code == 0
    text = config.read_text()
    assert "# mine" in text
    assert 'note = "ask Ann"' in text
    assert "# for now" in text
    assert json.loads(corral_says("context", "show", "x").stdout)["broker"] == "tcp://x:1,tcp://y:1"


def test_a_file_that_is_a_link_stays_one_and_no_other_file_beside_it_is_touched(config: Path, tmp_path: Path) -> None:
    config.parent.mkdir()
    kept = tmp_path / "dotfiles" / "corral.toml"
    kept.parent.mkdir()
    kept.write_text("# mine\n")
    config.symlink_to("../dotfiles/corral.toml")
    config.with_suffix(".new").write_text("of mine too\n")
    for args in (["add", "a", "ipc:///run/a"], ["use", "a"], ["add", "b", "ipc:///run/b"], ["rm", "b"]):
        assert corral_says("context", *args).exit_code == 0
    assert config.readlink() == Path("../dotfiles/corral.toml")
    assert kept.read_text().startswith("# mine\n") and names() == {"a": True}
    assert config.with_suffix(".new").read_text() == "of mine too\n"
    assert sorted(path.name for path in (*config.parent.iterdir(), *kept.parent.iterdir())) == ["config.new", "config.toml", "corral.toml"]


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["add", "a", "nowhere"], 1, "is neither tcp://HOST:PORT nor ipc://PATH"),
        (["add", "a b", "ipc:///x"], 2, "is not a name"),
        (["add", "a", "tcp://h:1", "--key", "k"], 2, "go together"),
        (["use", "homw"], 1, "did you mean home?"),
        (["use"], 2, "say which context"),
        (["rm", "nothing"], 1, "there is no context"),
        (["add", "home", "ipc:///x"], 1, "--force replaces it"),
        (["lst"], 2, "did you mean corral context list?"),
        ([], 2, "Usage: corral context"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(config: Path, args: list[str], status: int, says: str) -> None:
    assert corral_says("context", "add", "home", "ipc:///run/home").exit_code == 0
    before = config.read_text()
    said = corral_says("context", *args)
    assert (said.exit_code, said.stdout) == (status, ""), said.output
    assert says in said.stderr
    assert config.read_text() == before


def test_a_file_that_is_no_toml_is_said_and_left_alone(config: Path) -> None:
    config.parent.mkdir()
    config.write_text("current = [")
    for args in (["list"], ["add", "a", "ipc:///x"], ["use", "a"]):
        said = corral_says("context", *args)
        assert said.exit_code == 1
        assert "config.toml cannot be read" in said.stderr
    assert config.read_text() == "current = ["


@pytest.mark.runc
def test_up_writes_the_context_local_and_commands_follow_the_current_one(up: Up) -> None:
    environment = {key: value for key, value in up.environment.items() if key != "CORRAL_BROKER"}
    config = up.directory / "config" / "corral" / "config.toml"
    assert f'broker = "{up.address}"' in config.read_text()
    assert "current" not in config.read_text()
    try:
        assert up.corral_in(environment, "--context", "local", "ps").returncode == 0
        assert up.corral_in(environment, "context", "use", "local").stdout == "local\n"
        assert up.corral_in(environment, "guests", "--format", "{guest}").stdout == "g1\ng2\n"
        wrong = up.corral_in(environment, "--context", "locl", "ps")
        assert (wrong.returncode, "did you mean local?" in wrong.stderr) == (1, True)
    finally:
        up.corral_in(environment, "context", "use", "--none")
