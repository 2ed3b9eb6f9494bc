"""How fast the line is, and how it stands up to faults: out/bench/link.json and a picture. Upload against mpremote on the same
board, payload on a UART, what a prediction costs beside its arithmetic, sessions with faults, a fleet. Depends on mpremote for
the comparison, on the sim board, and on the rp2040 board where its firmware was built."""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinycl import fleet
from tinycl.bench import sessions, tiny
from tinycl.board.base import Board, BoardError
from tinycl.board.rp2040 import Rp2040Board
from tinycl.board.sim import SimBoard

UPLOAD_BYTES = 100_000
UART_BAUD, UART_RING_BYTES, UART_WINDOW_BYTES = 115_200, 260, 256
UART_BYTES = 40_000
PREDICTIONS = 300
REPEATS = 3
FLEET_BOARDS = 30
MPREMOTE_S = 600.0
MUST = {"upload_ratio_sim": 3.0, "upload_ratio_rp2040": 3.0, "uart_efficiency": 0.85, "predict_overhead_ms": 2.0}
# A sensor that always sees the same, so that the board times its own predictions.
SENSOR = b"def read_into(buffer):\n    return True\n"


def upload_s(board: Board, data: bytes) -> float:
    """Seconds of an upload by our own protocol, the check that the board makes of it included."""
    start = time.perf_counter()
    board.client.upload(data)
    return time.perf_counter() - start


def mpremote_s(device: str, size: int) -> float:
    """Seconds of `mpremote connect DEVICE resume fs cp` of that many random bytes, Python's start and the way into the REPL
    included. `resume` leaves out its soft reset, which the unix port cannot do in raw mode; that is in mpremote's favour."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{random.randbytes(4).hex()}.bin"  # mpremote leaves out what is there already
        file.write_bytes(random.randbytes(size))
        command = [sys.executable, "-m", "mpremote", "connect", device, "resume", "fs", "cp", str(file), f":{file.name}"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=MPREMOTE_S)
        took = time.perf_counter() - start
        if done.returncode or file.name not in done.stdout:
            raise BoardError(f"mpremote could not copy {size} bytes: {done.stderr.strip()[-200:]}")
        command[command.index("cp") :] = ["rm", f":{file.name}"]  # the flash must not fill up
        subprocess.run(command, capture_output=True, timeout=MPREMOTE_S)
    return took


def upload(board: Board, device: Callable[[], str], repeats: int = REPEATS) -> dict[str, float]:
    """Seconds for UPLOAD_BYTES, ours and mpremote's (less its time for one byte: its start), medians, and their ratio."""
    ours = []
    for _ in range(repeats):
        ours.append(upload_s(board, random.randbytes(UPLOAD_BYTES)))
    board.link.close()
    board.link.port.close()
    one = [mpremote_s(device(), 1) for _ in range(repeats)]
    whole = [mpremote_s(device(), UPLOAD_BYTES) for _ in range(repeats)]
    theirs = statistics.median(whole) - statistics.median(one)
    return {
        "ours_s": statistics.median(ours),
        "mpremote_s": theirs,
        "mpremote_start_s": statistics.median(one),
        "ratio": theirs / statistics.median(ours),
    }


def upload_sim() -> dict[str, float]:
    board = SimBoard()
    with board:
        return upload(board, lambda: board.tty)


def upload_rp2040() -> dict[str, Any]:
    """The same on the emulated chip; {"why": …} where its firmware or an emulator is not here."""
    try:
        board = Rp2040Board()
    except BoardError as e:
        return {"why": str(e)}
    with board:
        return {**upload(board, lambda: board.url, 1), "emulator": board.emulator}


def uart() -> dict[str, float]:
    """Payload on a line of 115,200 baud whose far end holds 260 bytes, as a share of the 11,520 bytes a second it carries."""
    board = SimBoard(baud=UART_BAUD, ring_bytes=UART_RING_BYTES)
    with board:
        (board.flash / "window").write_text(str(UART_WINDOW_BYTES))
        board.restart()
        took = upload_s(board, random.Random(1).randbytes(UART_BYTES))
        assert board.cable is not None
        return {
            "seconds": took,
            "efficiency": UART_BYTES / took / (UART_BAUD / 10),
            "window": board.link.window,
            "repeats": board.link.repeats,
            "overruns": board.cable.overruns,
        }


def predict() -> dict[str, float]:
    """Milliseconds of one prediction of one sample: as the host sees it, and as the board measures its arithmetic."""
    board = SimBoard()
    with board:
        board.deploy({"sensor.py": SENSOR})
        board.client.send_blob(tiny.blob())
        x = tiny.samples(0, 1)
        board.client.predict(x)
        took = []
        for _ in range(PREDICTIONS):
            start = time.perf_counter()
            board.client.predict(x)
            took.append(1000 * (time.perf_counter() - start))
        inside: list[float] = []

        def listener(event: dict[str, Any]) -> None:
            if event["t"] == "prediction":
                inside.append(event["us"] / 1000)

        board.client.watch(0.002)
        end = time.monotonic() + 10
        while len(inside) < PREDICTIONS // 3 and time.monotonic() < end:
            board.link.listen(0.05, listener)
        board.client.watch(0)
        whole, kernel = statistics.median(took), statistics.median(inside)
        return {
            "round_trip_ms": whole,
            "kernel_ms": kernel,
            "overhead_ms": whole - kernel,
            "p95_ms": float(np.quantile(took, 0.95)),
        }


def room(count: int = FLEET_BOARDS) -> dict[str, Any]:
    """So many boards at once: each gets a blob and learns a class of its own."""
    made = tiny.blob()

    def job(number: int) -> fleet.Job:
        def teach(board: Board, tell: fleet.Tell) -> dict[str, Any]:
            board.client.send_blob(made)
            name = f"class {number}"
            board.client.enrol(name, tiny.samples(2 + number % 2, 12, number))
            return {"class": name, "known": name in board.client.classes()}

        return teach

    start = time.perf_counter()
    rows = fleet.run(fleet.room(count), job, show=False)
    took = time.perf_counter() - start
    return {
        "boards": len(rows),
        "done": sum(row.done and bool(row.facts.get("known")) for row in rows),
        "seconds": took,
        "errors": [row.error for row in rows if row.error],
    }


def run(out: Path, count: int = 1000, boards: int = FLEET_BOARDS, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """Measures everything, writes link.json and link.png into `out`, returns what is in link.json."""
    out.mkdir(parents=True, exist_ok=True)
    tell("upload on sim, ours and mpremote's")
    sim = upload_sim()
    tell("upload on the emulated rp2040")
    rp2040 = upload_rp2040()
    tell(f"a UART of {UART_BAUD} baud")
    line = uart()
    tell("predictions")
    prediction = predict()
    tell(f"{count} sessions with faults")
    counts = sessions.run(range(count)).as_dict()
    tell(f"{boards} boards at once")
    many = room(boards)
    found = {
        "upload_ratio_sim": round(sim["ratio"], 2),
        "upload_ratio_rp2040": round(rp2040["ratio"], 2) if "ratio" in rp2040 else None,
        "uart_efficiency": round(line["efficiency"], 3),
        "predict_overhead_ms": round(prediction["overhead_ms"], 3),
        **{key: counts[key] for key in ("sessions", "complete", "typed_errors", "hung", "wrong")},
        "fleet_boards": many["boards"],
        "fleet_done": many["done"],
        "fleet_seconds": round(many["seconds"], 1),
        "must": MUST,
        "upload_sim": sim,
        "upload_rp2040": rp2040,
        "uart": line,
        "predict": prediction,
        "session_errors": counts["errors"],
        "session_faults": counts["faults"],
        "session_bad": counts["bad"],
        "session_longest_call_s": counts["longest_call_s"],
        "session_seconds": counts["seconds"],
        "fleet_errors": many["errors"],
    }
    (out / "link.json").write_text(json.dumps(found, indent=1) + "\n")
    picture(found, out / "link.png")
    return found


def picture(found: dict[str, Any], path: Path) -> None:
    """Uploads, the UART and predictions against what they must reach, and how the sessions ended."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    uploads = {name: found[f"upload_{name}"] for name in ("sim", "rp2040") if "ratio" in found[f"upload_{name}"]}
    rates = [[UPLOAD_BYTES / 1000 / made[key] for made in uploads.values()] for key in ("ours_s", "mpremote_s")]
    at = np.arange(len(uploads))
    for shift, kind, name in zip((-0.2, 0.2), rates, ("tinycl", "mpremote fs cp"), strict=True):
        left.bar_label(left.bar(at + shift, kind, 0.38, label=name), fmt="%.0f")
    left.set(xticks=at, yscale="log", ylabel="kB/s", title=f"Upload of {UPLOAD_BYTES // 1000} kB")
    left.set_xticklabels([f"{name}: {made['ratio']:.1f} times" for name, made in uploads.items()])
    left.margins(y=0.15)
    left.legend(fontsize=8)
    middle.barh([""], found["uart_efficiency"], 0.4, color="C0")
    middle.set_ylim(-0.6, 0.6)
    middle.axvline(MUST["uart_efficiency"], color="C3", lw=1)
    middle.set(xlim=(0, 1), title=f"Payload at 115,200 baud: {found['uart_efficiency']:.1%}")
    made = found["predict"]
    middle.set_xlabel(
        f"one predict on sim: {made['round_trip_ms']:.2f} ms, of it arithmetic {made['kernel_ms']:.2f} ms", fontsize=8
    )
    ends = {"complete": found["complete"], **found["session_errors"], "hung": found["hung"], "wrong": found["wrong"]}
    colours = ["C2", *["C0"] * len(found["session_errors"]), "C3", "C3"]
    right.bar_label(right.barh(list(ends), list(ends.values()), color=colours), padding=3)
    right.margins(x=0.15)
    right.invert_yaxis()
    right.set(title=f"{found['sessions']} sessions with faults")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: list[str]) -> int:
    """[SESSIONS [FOLDER]]: status 1 where something that must be reached was not."""
    found = run(Path(argv[1] if len(argv) > 1 else "out/bench"), int(argv[0]) if argv else 1000)
    sign = {"predict_overhead_ms": -1}  # at most that; everything else at least
    short = [key for key in MUST if found[key] is not None and sign.get(key, 1) * (found[key] - MUST[key]) < 0]
    bad = short + [key for key in ("hung", "wrong", "fleet_errors") if found[key]]
    if found["fleet_done"] != found["fleet_boards"]:
        bad.append("fleet_done")
    for key in (*MUST, "sessions", "complete", "typed_errors", "hung", "wrong", "fleet_boards", "fleet_done", "fleet_seconds"):
        print(f"{key}: {found[key]}" + (f" (must: {MUST[key]:g})" if key in MUST else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
