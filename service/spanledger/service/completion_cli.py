"""`spanledger completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and their values.

    \b
    Examples:
      spanledger completion bash > ~/.local/share/bash-completion/completions/spanledger
      spanledger completion zsh > ~/.zfunc/_spanledger
      spanledger completion fish > ~/.config/fish/completions/spanledger.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "spanledger", "_SPANLEDGER_COMPLETE")
    click.echo(made.source_template % made.source_vars())  # source() also asks the bash of this machine for its version
