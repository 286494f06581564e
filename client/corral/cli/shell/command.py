"""What every command of ours is: help like a man page, docker's foreign flags refused in a sentence, failures said in a line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from corral.cli.text.failures import CORRALS_OWN, FAILED, USAGE, Failed, told

ENVIRONMENT = (
    ("CORRAL_BROKER", "Broker address (tcp://HOST:PORT or ipc://PATH), comma separated for several; --broker goes first."),
    ("CORRAL_KEY", "Key file (corral keys new) for a broker that is dialled by tcp; without it, the key of its context in config.toml."),
    ("CORRAL_SERVER_KEY", "Public key of that broker, or the file broker.public that holds it."),
    ("NO_COLOR", "Any value: no colour."),
)


class CorralCommand(click.Command):
    """A command that returns its exit status (None: 0).

    `process_status`: its status is that of the container's process, so that everything of Corral's own is 125, wrong usage included.
    """

    def __init__(
        self,
        *args: Any,
        process_status: bool = False,
        examples: Sequence[tuple[str, str]] = (),
        statuses: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.process_status = process_status
        self.examples = examples
        self.statuses = statuses

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as why:
            raise self._usage_failure(why) from why

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with told(CORRALS_OWN if self.process_status else FAILED):
                status = super().invoke(ctx)
        except click.UsageError as why:
            raise self._usage_failure(why) from why
        if status:
            ctx.exit(status)

    def _usage_failure(self, why: click.UsageError) -> Failed:
        message, hint = why.format_message(), f"corral {self.name} --help"
        if isinstance(why, click.NoSuchOption):
            from corral.cli.shell.docker_flags import sentence

            refusal = sentence(self.name or "", why.option_name)
            nearest = why.possibilities or []
            message = refusal or f"{self.name} has no option {why.option_name}"
            hint = "" if refusal else f"did you mean {', '.join(nearest)}?" if nearest else hint
        return Failed(message.rstrip("."), status=CORRALS_OWN if self.process_status else USAGE, hint=hint)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.statuses:
            with formatter.section("Exit status"):
                formatter.write_dl(list(self.statuses))
        with formatter.section("Environment"):
            formatter.write_dl(list(ENVIRONMENT))
        if self.examples:
            with formatter.section("Examples"):
                for text, line in self.examples:
                    if text:  # without one, the line belongs to the example before it
                        formatter.write_text(f"{text}:")
                    formatter.write(f"{'':>{formatter.current_indent + 2}}{line}\n")


class CommandGroup(CorralCommand, click.Group):
    """Commands below one word, such as `corral context`. aliases: other spelling → name. status: of a word that is none of them.

    lists: without one of them it does something itself, to which its options belong.
    """

    status = USAGE

    def __init__(self, *args: Any, aliases: Mapping[str, str] | None = None, lists: bool = False, **kwargs: Any) -> None:
        metavar = "[COMMAND [ARGS]...]" if lists else "COMMAND [ARGS]..."
        super().__init__(*args, subcommand_metavar=metavar, no_args_is_help=False, invoke_without_command=lists, **kwargs)
        self.aliases = aliases or {}
        self.lists = lists

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing and not self.lists:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(self.status)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        word, *rest = args
        found = self.commands.get(self.aliases.get(word, word))
        if found is not None:
            return word, found, rest
        if ctx.resilient_parsing or word.startswith("-"):
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        nearest = get_close_matches(word, [*self.commands, *self.aliases], 1)
        hint = f"did you mean corral {self.name} {nearest[0]}?" if nearest else f"there are: {', '.join(self.commands)}"
        raise Failed(f"{self.name} has no command {word!r}", status=self.status, hint=hint)


def is_for_another() -> bool:
    """In a group that does something itself: whether one of its commands is meant. Raises UsageError for options before that."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        return False
    if any(ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in ctx.params):
        raise click.UsageError(f"options of `{ctx.command.name} {ctx.invoked_subcommand}` stand behind it")
    return True


PROCESS_STATUSES = (
    ("N", "the code the process exited with"),
    ("128+N", "the process was killed by signal N"),
    ("127, 126", "the program was not found, or may not be executed"),
    ("125", "Corral failed: no broker, no such guest or container, wrong usage, or a lost exit"),
    ("0", "also after detaching"),
)
PLAIN_STATUSES = (
    ("0", "done"),
    ("1", "failed, for one or more of the things named"),
    ("2", "wrong usage"),
    ("255", "no broker answered within 5 s"),
)


def command(
    name: str,
    *,
    examples: Sequence[tuple[str, str]],
    process_status: bool = False,
    statuses: Sequence[tuple[str, str]] | None = None,
    interspersed: bool = True,
    help_flags: Sequence[str] = ("-h", "--help"),
) -> Callable[[Callable[..., Any]], CorralCommand]:
    """Decorator: a CorralCommand. `interspersed=False`: what follows the first word is the program's, flags included."""
    chosen = statuses if statuses is not None else PROCESS_STATUSES if process_status else PLAIN_STATUSES
    return click.command(
        name,
        cls=CorralCommand,
        examples=examples,
        statuses=chosen,
        process_status=process_status,
        context_settings={"allow_interspersed_args": interspersed, "help_option_names": list(help_flags), "max_content_width": 100},
    )
