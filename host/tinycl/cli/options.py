"""What several commands have in common."""

from collections.abc import Callable
from typing import Any

import click

SEED = click.IntRange(0, (1 << 31) - 1)
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
board_option = click.option(
    "--board",
    "selector",
    default="",
    envvar="TINYCL_BOARD",
    show_default=False,
    help="sim, rp2040 (emulated), a port, a USB serial number or a board's id. [default: the only one plugged in]",
)
line_options = together(
    click.option("--baud", default=115200, type=click.IntRange(300, 4_000_000), help="Rate of a port with a UART behind it."),
    click.option("--dtr/--no-dtr", default=None, help="Hold the port's DTR line on or off. [default: on]"),
    click.option("--rts/--no-rts", default=None, help="Hold the port's RTS line on or off. [default: on]"),
)
sim_options = together(
    click.option("--micropython", help="A unix MicroPython of 1.24 or newer for the sim board."),
    click.option("--heap-kb", default=None, type=click.IntRange(32), help="Heap of the sim board. [default: an RP2040's]"),
)
