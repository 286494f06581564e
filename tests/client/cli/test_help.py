"""Help, and what it costs."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from corral.cli.main import ALIASES, SECTIONS, corral
from corral.cli.shell.command import CorralCommand
from corral.cli.shell.docker_flags import FLAGS

OURS = [name for rows in SECTIONS.values() for name, (module, _) in rows.items() if module]


def command_named(name: str) -> CorralCommand:
    found = corral.get_command(click.Context(corral), name)
    assert isinstance(found, CorralCommand)
    return found


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(corral, ["--help"])
    assert shown.exit_code == 0
    for rows in SECTIONS.values():
        for name, (_, line) in rows.items():
            assert f"  {name} " in shown.output
            assert line in shown.output


@pytest.mark.parametrize("name", [*OURS, *ALIASES])
def test_every_command_explains_itself_with_examples_and_statuses(name: str) -> None:
    shown = CliRunner().invoke(corral, [name, "--help"])
    assert shown.exit_code == 0
    for heading in ("Options:", "Exit status:", "Environment:", "Examples:"):
        assert heading in shown.output
    assert f"corral {ALIASES.get(name, name)}" in shown.output


@pytest.mark.parametrize("name", OURS)
def test_every_option_has_a_line_of_help(name: str) -> None:
    for parameter in command_named(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts


@pytest.mark.parametrize("name", ["broker", "worker"])
def test_commands_of_other_packages_are_found(name: str) -> None:
    assert isinstance(corral.get_command(click.Context(corral), name), click.Command)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from corral.cli.main import corral; corral(['--help'], standalone_mode=False);"
        "heavy = {'zmq', 'msgspec', 'msgpack', 'rich', 'asyncio', 'corral_schemas', 'importlib.metadata'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=20)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_a_flag_refused_as_dockers_is_none_of_ours(name: str) -> None:
    ours = {spelling for parameter in command_named(name).params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    assert not ours & set(FLAGS[name])


def test_without_a_command_the_help_is_shown_as_wrong_usage() -> None:
    shown = CliRunner().invoke(corral, [])
    assert shown.exit_code == 2
    assert "Usage: corral" in shown.stderr


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(corral, ["--version"]).output.startswith("corral 0.")
