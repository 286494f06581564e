"""corral completion."""

import click

from corral.cli.shell.command import command

SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    statuses=(("0", "done"), ("2", "wrong usage")),
    examples=[
        ("In ~/.bashrc", 'eval "$(corral completion bash)"'),
        ("In ~/.zshrc, after compinit", 'eval "$(corral completion zsh)"'),
        ("In ~/.config/fish/config.fish", "corral completion fish | source"),
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print a script that completes commands, options, guests, containers, processes, event kinds, signals and contexts in SHELL.

    The script asks the broker for guests and containers; it offers none if the broker does not answer at once.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"{shell} is none of {', '.join(SHELLS)}")
    source = made(click.get_current_context().find_root().command, {}, "corral", "_CORRAL_COMPLETE").source()
    # click's script for fish cuts words at each comma, and a selector (g1,g2) has some.
    click.echo(source.replace('string split ","', 'string split --max 1 ","') if shell == "fish" else source)
    return 0
