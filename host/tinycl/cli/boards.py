"""What is done with boards: see them, flash them, teach them, ask them, keep what they have learned."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import click

from tinycl.cli.options import board_option, json_option, line_options, sim_options, together
from tinycl.shared.errors import TinyclError

SIGN_OF_LIFE_S = 5.0  # a board ends the session of a host that is silent for half a minute
_board = together(board_option, line_options, sim_options)
_source = together(
    click.option("--from", "source", required=True, help="File or folder of samples (.npy, .npz, .csv, pictures), or '-'."),
    click.option("--invert", is_flag=True, help="Swap light and dark of pictures: ink on paper for a blob of light on dark."),
)


def _pick(
    selector: str, baud: int, dtr: bool | None, rts: bool | None, micropython: str | None, heap_kb: int | None, **_: Any
) -> Any:
    from tinycl.board.pick import pick

    return pick(selector, micropython, heap_kb, baud=baud, dtr=dtr, rts=rts)


def _samples(board: Any, source: str, invert: bool) -> Any:
    from tinycl import samples

    return samples.read(source, samples.Format.of(board.client.status(), invert))


def _blob(file: Path | None) -> bytes | None:
    """A blob's bytes, found to be one before any board is started."""
    if file is None:
        return None
    from tinycl.shared.blob import Blob

    data = file.read_bytes()
    Blob(data)
    return data


def _say(facts: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(facts) if as_json else text)


@click.command()
@_board
@click.option("-v", "--verbose", is_flag=True, help="All that a board says of itself, its counters among it.")
@json_option
def boards(verbose: bool, as_json: bool, **options: Any) -> None:
    """Show which boards are there, and what they say of themselves."""
    from tinycl.board.base import BoardError
    from tinycl.board.pick import embedded
    from tinycl.board.port import discover
    from tinycl.board.rp2040 import Rp2040Board
    from tinycl.board.sim import HOW_TO_GET_ONE, SimBoard

    found: dict[str, Any] = {}
    troubles: list[str] = []
    if options["selector"]:
        with _pick(**options) as board:
            found[options["selector"]] = board.link.board
    else:
        for port in discover(baud=options["baud"], dtr=options["dtr"], rts=options["rts"]):
            if port.hello:
                found[port.device] = {**port.hello, "usb_serial": port.usb_serial}
            else:
                troubles.append(port.describe())
        if options["micropython"] or SimBoard.find():
            with embedded("sim", micropython=options["micropython"], heap_kb=options["heap_kb"]) as board:
                found["sim"] = board.link.board
    if not found and not troubles:
        raise BoardError(f"0 boards can be used on this machine; plug one in, or for the sim board {HOW_TO_GET_ONE}")
    if as_json:
        click.echo(json.dumps({**found, **({"without_agent": troubles} if troubles else {})}, indent=1))
        return
    for name, hello in found.items():
        click.echo(
            f"{name}: board {hello['board']}, MicroPython {hello['version']} on {hello['platform']}, agent {hello['agent']}, "
            f"kernels {', '.join(hello['available'])}, {hello['free_bytes']:,} bytes free, window {hello['window']} bytes, "
            + (f"blob {hello['blob']:08x}, commit {hello['sequence']}" if hello["blob"] else "no blob")
        )
        if verbose:
            for key in sorted(hello):
                click.echo(f"  {key:>14}  {hello[key]}")
    for trouble in troubles:
        click.echo(trouble)
    if not options["selector"] and Rp2040Board.find():
        click.echo("rp2040: an emulated board can be used (--board rp2040)")


@click.command()
@sim_options
@click.option("--boards", "count", default=1, type=click.IntRange(1, 64), help="So many of them.")
@click.option(
    "--flash",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder that keeps their flash. [default: boards/plugged in build/ of the project]",
)
def sim(count: int, flash: Path | None, micropython: str | None, heap_kb: int | None) -> None:
    """Plug in simulated boards: they stay, each behind a port of its own, until Ctrl-C."""
    from tinycl.board.pick import kept
    from tinycl.board.sim import HEAP_BYTES, SimBoard

    flash = flash or kept() / "plugged"
    plugged = []
    with contextlib.ExitStack() as stack:
        for i in range(count):
            board = SimBoard(micropython, heap_kb * 1024 if heap_kb else HEAP_BYTES, flash=flash / str(i))
            stack.callback(board.close)
            if not (board.flash / "main.py").exists():
                board.deploy()
            board.start()
            plugged.append(board)
            click.echo(f"board {(board.flash / 'board-id').read_text()} at {board.tty}")
        click.echo("name one with --board PORT; Ctrl-C unplugs" + (" them all" if count > 1 else ""), err=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by a script, it cleans up as well
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            while any(board.plugged for board in plugged):
                time.sleep(0.2)


def _flashed(port: Any, made: Any) -> dict[str, Any]:
    """What `tinycl flash` did to one board, or why not."""
    if isinstance(made, TinyclError):
        return {"device": port.device, "error": str(made)}
    return {
        "device": made.device,
        "board": made.board,
        "before": made.before,
        "firmware": made.firmware,
        "written": sorted(made.deployed.written),
        "removed": sorted(made.deployed.removed),
        "moved": dict(made.deployed.moved),
        "skipped": made.deployed.skipped,
        "notes": made.deployed.notes,
        "blob": made.blob,
        "changed": made.changed,
        "seconds": round(made.seconds, 1),
        "hello": made.hello,
    }


def _flashed_line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['device']}: FAILED: {row['error']}"
    hello = row["hello"]
    did = f"{len(row['written'])} files written" if row["changed"] else "nothing to do"
    blob = {"sent": ", blob sent", "there": ", blob was there"}.get(row["blob"], "")
    return (
        f"{row['device']}: board {row['board']}, {did}{blob}; agent {hello['agent']} on MicroPython {hello['version']}, "
        f"{hello['kernels']} kernels, {hello['free_bytes']:,} bytes free, {row['seconds']} s"
    )


@click.command()
@_board
@click.option("--all", "everything", is_flag=True, help="Every board in the room, side by side.")
@click.option("--blob", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Blob to send. [default: none]")
@click.option(
    "--firmware",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Image at hand (.uf2 for an RP2040, .bin for an ESP32). [default: downloaded where it is needed]",
)
@click.option("--reinstall", is_flag=True, help="Install the firmware even where it is good enough.")
@click.option("--micropython-board", "kind", default="", help="The board's name at micropython.org, for a download.")
@json_option
def flash(
    everything: bool, blob: Path | None, firmware: Path | None, reinstall: bool, kind: str, as_json: bool, **options: Any
) -> None:
    """Make a board one of this kit: MicroPython where it is missing or too old, runtime, native kernels if built, blob. What is
    there already is not written again; what the board has learned stays."""
    from tinycl import flash as work
    from tinycl.board.pick import EMBEDDED
    from tinycl.board.places import cache
    from tinycl.board.port import Lines
    from tinycl.progress import many

    named = click.get_current_context().get_parameter_source("selector") is click.core.ParameterSource.COMMANDLINE
    if everything and named:
        raise click.UsageError("name one board with --board, or give --all")
    if everything:
        options["selector"] = ""  # TINYCL_BOARD is for the commands that take one board
    if options["selector"] in EMBEDDED and (firmware or reinstall or kind):
        raise click.UsageError(
            f"--firmware, --reinstall and --micropython-board are for boards behind a port, not for '{options['selector']}' "
            "(an image for rp2040 is named in TINYCL_FIRMWARE)"
        )
    data = _blob(blob)
    if options["selector"] in EMBEDDED:
        with _pick(**options) as board:
            sent = work.send_blob(board.client, data, lambda what, done, total: None)
            hello = board.link.hello()
        row = {"device": options["selector"], "board": hello["board"], "blob": sent, "hello": hello}
        click.echo(json.dumps([row]) if as_json else f"{row['device']}: board {row['board']}, blob {sent or 'not given'}")
        return
    lines = Lines(options["baud"], options["dtr"], options["rts"])
    wanted = work.Options(firmware, reinstall, kind, blob=data, natmod=cache() / "natmod", lines=lines)
    with many() as tell:
        if everything:
            rows = [_flashed(port, made) for port, made in work.flash_all(wanted, tell)]
        else:
            rows = [_flashed(None, work.flash(options["selector"], wanted, lambda *what: tell("", *what)))]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        for row in rows:
            click.echo(_flashed_line(row))
    if any("error" in row for row in rows):
        raise SystemExit(1)


@click.command()
@click.argument("name")
@_source
@click.option("--samples", type=click.IntRange(1), help="Take only the first so many. [default: all]")
@_board
@json_option
def enrol(name: str, source: str, invert: bool, samples: int | None, as_json: bool, **options: Any) -> None:
    """Teach a board a class from a handful of samples. It has all of them afterwards, or, where this fails, none."""
    from tinycl.progress import console, follow, stage

    with _pick(**options) as board:
        x = _samples(board, source, invert)[:samples]
        events: list[dict[str, Any]] = []
        with stage(f"enrolling '{name}', {len(x)} samples") as update:
            done = board.client.enrol(name, x, follow(update, events))
        console.print(f"board {board.link.board['board']}", style="dim")
    _say(
        done,
        as_json,
        f"'{name}': {done['samples']} samples, validation {100 * done['val']:.0f} %, rung {done['rung']}, "
        f"{done['train_ms']:,} ms of training; {done['kept']} samples kept",
    )


@click.command()
@_source
@_board
@json_option
def predict(source: str, invert: bool, as_json: bool, **options: Any) -> None:
    """Ask a board which class each sample is."""
    with _pick(**options) as board:
        x = _samples(board, source, invert)
        numbers, certainty = board.client.predict(x)
        names = list(board.client.classes())
    found = [{"class": names[c], "certainty": round(float(p), 3)} for c, p in zip(numbers, certainty, strict=True)]
    if as_json:
        click.echo(json.dumps(found))
    else:
        for i, one in enumerate(found):
            click.echo(f"{i:>5}  {one['class']:<32} {100 * one['certainty']:3.0f} %")


@click.command()
@_board
@click.option("--period", default=1.0, type=click.FloatRange(0.02, 60), help="Seconds between two looks.")
@click.option("--for", "seconds", default=None, type=click.FloatRange(0), help="Stop after so long. [default: at Ctrl-C]")
@json_option
def watch(period: float, seconds: float | None, as_json: bool, **options: Any) -> None:
    """Show a board's metrics, and the predictions of its own sensor, as they come."""
    from tinycl.board.base import Board

    def show(event: dict[str, Any]) -> None:
        if as_json:
            text = json.dumps(event)
        elif event["t"] == "prediction":
            text = f"{event['class']:<32} {100 * event['certainty']:3.0f} %  {event['us'] / 1000:.1f} ms"
        else:
            text = event["t"] + "  " + ", ".join(f"{key} {value}" for key, value in event.items() if key != "t")
        click.echo(text)

    board: Board
    with _pick(**options) as board:
        board.link.on_event = show  # whatever is asked of the board meanwhile
        end = time.monotonic() + (seconds if seconds is not None else float("inf"))
        if not board.client.watch(period) and not as_json:
            click.echo("no sensor on this board (sensor.py on its flash): metrics only", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            while time.monotonic() < end:
                board.link.listen(min(SIGN_OF_LIFE_S, max(0.0, end - time.monotonic())))
                board.client.status()
        board.client.watch(0)


@click.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Everything that was learned since the blob was sent.")
@_board
@json_option
def forget(name: str | None, everything: bool, as_json: bool, **options: Any) -> None:
    """Take a class out of a board; the others stay as they are."""
    if bool(name) == everything:
        raise click.UsageError("name one class, or give --all")
    with _pick(**options) as board:
        done = board.client.start_over() if everything else board.client.forget(name)
    _say(done, as_json, f"forgotten; {done['classes']} classes are left, commit {done['sequence']}")


@click.command()
@click.argument("old")
@click.argument("new")
@_board
@json_option
def rename(old: str, new: str, as_json: bool, **options: Any) -> None:
    """Give a class another name."""
    with _pick(**options) as board:
        done = board.client.rename(old, new)
    _say(done, as_json, f"'{old}' is '{new}' now, commit {done['sequence']}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@_board
@json_option
def pull(file: Path, as_json: bool, **options: Any) -> None:
    """Save everything that a board has learned as one file."""
    from tinycl.learned import Learned
    from tinycl.progress import stage

    with _pick(**options) as board, stage("reading what the board has learned") as update:
        data = board.client.pull(update)
    facts = Learned(data).facts()
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    os.replace(part, file)  # the old file stays until the new one is whole
    _say(facts, as_json, f"{file}: {facts['bytes']:,} bytes, {len(facts['classes'])} classes: {', '.join(facts['classes'])}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--replace", is_flag=True, help="Even where the board loses classes of its own.")
@_board
@json_option
def push(file: Path, replace: bool, as_json: bool, **options: Any) -> None:
    """Have a board take over what another one has learned, with the same predictions to the bit."""
    from tinycl.errors import UserError
    from tinycl.learned import Learned
    from tinycl.progress import stage

    learned = Learned(file.read_bytes())
    with _pick(**options) as board:
        own = board.client.status().get("enrolments", 0)
        lost = sorted(set(board.client.classes()) - set(learned.names)) if own else []
        if lost and not replace:
            raise UserError(
                f"the board would lose {len(lost)} classes that it was taught ({', '.join(lost)}): save them with "
                "'tinycl pull' first, then give --replace"
            )
        with stage("sending what was learned") as update:
            done = board.client.push(learned.data, update)
    _say(done, as_json, f"{done['classes']} classes: {', '.join(learned.names)}; commit {done['sequence']}")


@click.command()
@click.option("--from", "folder", required=True, type=click.Path(path_type=Path, exists=True), help="Folder: a class a file.")
@click.option("--blob", type=click.Path(path_type=Path, exists=True), help="Blob for the boards that have another or none.")
@click.option(
    "--sim", "count", default=0, type=click.IntRange(0, 64), help="So many simulated boards. [default: the real ones]"
)
@click.option("--deadline", default=120.0, type=click.FloatRange(1), help="Seconds after which a board is left behind.")
@sim_options
@json_option
def fleet(
    folder: Path,
    blob: Path | None,
    count: int,
    deadline: float,
    micropython: str | None,
    heap_kb: int | None,
    as_json: bool,
) -> None:
    """Teach every board in the room a class of its own, at the same time."""
    from rich.console import Console

    from tinycl import fleet as many

    jobs = many.classes_of(folder)
    data = _blob(blob)
    boards = many.room(count, micropython, heap_kb)
    rows = many.run(boards, lambda i: many.teach(jobs[i % len(jobs)], data), deadline)
    if as_json:
        click.echo(json.dumps([row.as_dict() for row in rows]))
    else:
        Console(markup=False).print(many.table(rows))
    if any(row.error for row in rows):
        raise SystemExit(1)


COMMANDS = (boards, sim, flash, enrol, predict, watch, forget, rename, pull, push, fleet)
