"""The `tinycl` command. Each subcommand reads its options, calls one function, and prints; errors are one line each.

data.py is about data sets, steps.py has what else needs no board but the demo's, boards.py what is done with boards, bench.py
the experiments."""

import sys
from typing import Any

import click

from tinycl import __version__
from tinycl.shared.errors import TinyclError


class Commands(click.Group):
    """Shows the commands in the order of the work, and turns errors into one line and an exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TinyclError as e:
            click.echo(f"tinycl: {e}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            raise
        except OSError as e:
            click.echo(f"tinycl: {e}: check the path and its permissions", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo(
                "tinycl: stopped; a board keeps its last good state, an enrolment that was under way is undone: "
                "run the same command again to start over",
                err=True,
            )
            sys.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
def main() -> None:
    """Continual learning on microcontrollers: distil on the host, learn on the board.

    What a board needs is made in steps: data, train, distil, export. All of them, and the board on top: demo.

    A board: boards and sim show what there is, flash makes it one of this kit, enrol teaches it a class, predict and watch ask
    it, forget and rename change what it knows, pull and push carry that about, fleet teaches a whole room.

    The paper's experiments: bench.
    """


from tinycl.cli import bench, boards, data, steps  # noqa: E402  # they need the group

for command in (data.data_group, *steps.COMMANDS, *boards.COMMANDS, bench.bench_group):
    main.add_command(command)
