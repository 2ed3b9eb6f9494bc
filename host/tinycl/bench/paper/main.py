"""All cells of the paper's table, side by side and resumed where it stopped; JSON and a page. Depends on joblib."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from tinycl import learned, pipeline
from tinycl.bench.paper import cell, report
from tinycl.bench.paper.setting import DATA, Setting
from tinycl.board.base import runtime
from tinycl.data import SETS
from tinycl.data.files import folder_of
from tinycl.errors import UserError

QUICK_DISTILLERS = ("dm", "random")
Tell = Callable[[str], None]


def key(setting: Setting, quick: bool) -> str:
    """Name of a cell's file: another one where the code or the data's files change."""
    code = hashlib.sha256(Path(pipeline.__file__).read_bytes() + Path(learned.__file__).read_bytes())
    folder = folder_of(setting.name, setting.data_dir)
    for path in sorted(folder.rglob("*")) if setting.name in SETS and SETS[setting.name].INFO.get and folder.is_dir() else ():
        code.update(repr((str(path.relative_to(folder)), path.stat().st_size)).encode())
    here = Path(__file__).parent
    own = [here, *(here.parents[1] / name for name in ("data", "distil", "learn", "model"))]
    for path in sorted(path for folder in own for path in folder.rglob("*.py")):
        if path.name not in ("main.py", "report.py"):
            code.update(path.read_bytes())
    for _, data in sorted(runtime().items()):
        code.update(data)
    return f"{setting.name}-{setting.seed}-{'quick-' if quick else ''}{code.hexdigest()[:12]}"


def work(setting: Setting, file: Path, quick: bool) -> dict[str, Any]:
    """A cell, from its file or made now, in one thread: cells run side by side."""
    if file.exists():
        return json.loads(file.read_text())
    import torch

    torch.set_num_threads(1)
    found = cell.run(setting, QUICK_DISTILLERS) if quick else cell.run(setting)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found) + "\n")
    part.replace(file)
    return found


@contextmanager
def workers(jobs: int, cluster: str) -> Iterator[None]:
    """joblib's own processes, or those of a Dask cluster at that address, through joblib's backend for it."""
    if not cluster:
        with joblib.parallel_config(backend="loky", n_jobs=jobs):
            yield
        return
    try:
        from dask.distributed import Client
    except ImportError as e:
        raise UserError("no dask.distributed for --cluster: pip install 'tinycl[cluster]'") from e
    with Client(cluster), joblib.parallel_config(backend="dask"):
        yield


def run(
    out: Path,
    names: Iterable[str] = DATA,
    seeds: int = 5,
    quick: bool = False,
    jobs: int = 2,
    cluster: str = "",
    data_dir: str | None = None,
    tell: Tell = print,
) -> dict[str, Any]:
    """Runs what is not there yet; writes out/paper.json, out/paper.html and the pictures. Returns what the JSON has."""
    settings = [Setting(name, seed, data_dir) for seed in range(1 if quick else seeds) for name in names]
    folder = (out / "paper").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(setting, folder / f"{key(setting, quick)}.json") for setting in settings]
    there = sum(file.exists() for _, file in todo)
    tell(f"{len(todo)} cells, {there} of them there already")
    cells = []
    with workers(jobs, cluster):
        made = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(work)(s, file, quick) for s, file in todo)
        for done, found in enumerate(made, 1):
            cells.append(found)
            tell(f"{done} of {len(todo)}: {found['data']}, seed {found['seed']}: {found['seconds']:.0f} s")
    cells.sort(key=lambda found: (list(names).index(found["data"]), found["seed"]))
    summary = {name: summarise([found for found in cells if found["data"] == name]) for name in names}
    (out / "paper.json").write_text(json.dumps(summary, indent=1) + "\n")
    report.write(out, summary, cells)
    return summary


def spread(values: Iterable[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    found = np.asarray(list(values), float)
    return {"mean": round(float(found.mean()), 4), "std": round(float(found.std(ddof=1)) if len(found) > 1 else 0.0, 4)}


def summarise(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """What paper.json says of a data set."""
    first = cells[0]
    final = {name: spread(c["variants"][name]["final_accuracy"] for c in cells) for name in first["variants"]}
    common = [n for n in first["baselines"] if n != "joint training" and all(n in c["baselines"] for c in cells)]
    others = {name: spread(c["baselines"][name]["final_accuracy"] for c in cells) for name in common}
    best = max(others, key=lambda name: others[name]["mean"])
    distillers = {
        name: {count: spread(c["distillers"][name][count] for c in cells) for count in first["distillers"][name]}
        for name in first["distillers"]
    }
    ours = "adaptive with early exits"
    return {
        "seeds": len(cells),
        "stand_in": first["stand_in_for"],
        "per_class": first["per_class"],
        "mac_ratio": spread(c["mac_ratio"] for c in cells),
        "mac_ratio_small": spread(c["mac_ratio_small"] for c in cells),
        "base_accuracy": {v: spread(c["variants"][v]["accuracy"][0] for c in cells) for v in first["variants"]},
        "slda_diagonal": first["baselines"].get("SLDA", {}).get("diagonal", False),
        "mac_ratio_early": spread(c["mac_ratio_early"] for c in cells),
        "accuracy_loss": spread(c["accuracy_loss"] for c in cells),
        "accuracy_loss_early": spread(c["accuracy_loss_early"] for c in cells),
        "bytes_ratio": spread(c["bytes_ratio"] for c in cells),
        "final_accuracy": final["adaptive"],
        "joint_accuracy": spread(c["joint_accuracy"] for c in cells),
        "forgetting": spread(c["variants"]["adaptive"]["forgetting"] for c in cells),
        "growth_tried": spread(c["variants"]["adaptive"]["tried"] for c in cells),
        "growth_accepted": spread(c["variants"]["adaptive"]["accepted"] for c in cells),
        "training_share": spread(c["variants"]["adaptive"]["macs_training"] / c["variants"]["adaptive"]["macs"] for c in cells),
        "variants": final,
        "distillers": distillers,
        "best_distiller": max(distillers, key=lambda name: distillers[name]["1"]["mean"]),
        "baselines": others,
        "best_baseline": best,
        "delta_to_best_baseline": spread(
            c["variants"]["adaptive"]["final_accuracy"] - c["baselines"][best]["final_accuracy"] for c in cells
        ),
        "delta_early_to_best_baseline": spread(
            c["variants"][ours]["final_accuracy"] - c["baselines"][best]["final_accuracy"] for c in cells
        ),
    }
