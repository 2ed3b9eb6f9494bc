"""The host's steps from data to blob, and the demo, which puts a board on top."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from tinycl.cli.options import SEED, json_option, sim_options, together

_data_set = together(
    click.option("--data", default="digits", help="A name of `tinycl data list`, or your own .npz, .csv or folder of classes."),
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        show_default=False,
        help="Folder of the data set, or the one above it. [default: $TINYCL_DATA or ./data; . for your own]",
    ),
)
data_options = together(
    _data_set,
    click.option("--base", type=click.IntRange(2), help="Number of base classes. [default: the data set's own]"),
    click.option("--seed", default=0, type=SEED, help="Seed of everything random; it also deals the classes of `digits`."),
)


def load(data: str, data_dir: Path | None, seed: int, quiet: bool = False) -> Any:
    """The data set; what was done to it, or is missing of it, is said on standard error."""
    from tinycl import data as data_sets

    found = data_sets.load(data, data_dir, seed)
    for note in () if quiet else found.notes:
        click.echo(f"{found.name}: {note}", err=True)
    return found


@click.command()
@data_options
@click.option("--out", default="build/backbone.npz", type=click.Path(path_type=Path), help="Where the backbone goes.")
def train(data: str, data_dir: Path | None, base: int | None, seed: int, out: Path) -> None:
    """Train the backbone on the base classes and quantise it to int8."""
    from tinycl import pipeline
    from tinycl.model import files
    from tinycl.progress import stage

    found = load(data, data_dir, seed)
    first, _ = pipeline.split_classes(found, base, seed)
    with stage("training the backbone") as update:
        backbone = pipeline.make_backbone(found, first, seed, update)
    files.save(out, backbone, first, found, seed)
    click.echo(f"{out}: {backbone.weights_bytes:,} bytes of weights, exits with {backbone.latent_sizes} inputs")


def _load_backbone(path: Path, data: str, data_dir: Path | None) -> tuple[Any, Any]:
    """(data set, what `train` left); refuses a backbone of another data set."""
    from tinycl.model import files

    saved = files.load(path)
    found = load(data, data_dir, saved.seed)
    saved.check(found)
    return found, saved


@click.command()
@_data_set
@click.option("--seed", default=0, type=SEED, help="Seed of the distiller.")
@click.option("--backbone", default="build/backbone.npz", type=click.Path(path_type=Path), help="What `train` left.")
@click.option("--method", default="dm", help="dm, frepo, dc, kmeans, herding or random.")
@click.option("--per-class", default=15, type=click.IntRange(1), help="Synthetic samples per base class.")
@click.option("--bytes", "budget", type=click.IntRange(1), help="Instead of --per-class: as many as so many bytes hold.")
@click.option("--out", default="build/synthetic.npz", type=click.Path(path_type=Path), help="Where the samples go.")
def distil(
    data: str, data_dir: Path | None, seed: int, backbone: Path, method: str, per_class: int, budget: int | None, out: Path
) -> None:
    """Distil the base classes into a few synthetic samples, with a picture of them."""
    from tinycl import pipeline, report
    from tinycl.distil import samples_for
    from tinycl.progress import stage

    found, saved = _load_backbone(backbone, data, data_dir)
    if budget:
        per_class = samples_for(method, budget, len(saved.base), saved.backbone)
    with stage("distilling") as update:
        made = pipeline.make_synthetic(found, saved.base, saved.backbone, method, per_class, seed, update)
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(out, synthetic=made)
    picture = out.with_suffix(".png")
    report.samples_picture(made, [found.classes[c] for c in saved.base]).savefig(picture, dpi=110)
    click.echo(f"{out}: {made.shape[0]} classes of {made.shape[1]} samples, {made.nbytes:,} bytes; picture: {picture}")


@click.command()
@_data_set
@click.option("--backbone", default="build/backbone.npz", type=click.Path(path_type=Path), help="What `train` left.")
@click.option("--synthetic", default="build/synthetic.npz", type=click.Path(path_type=Path), help="What `distil` left.")
@click.option("--max-classes", type=click.IntRange(2, 64), help="Classes to make room for. [default: those of the data set]")
@click.option("--samples", default=15, type=click.IntRange(2, 4096), help="Most samples of one enrolment.")
@click.option("--target", default=None, type=click.FloatRange(0, 1), help="Validation accuracy below which the model grows.")
@click.option("--out", type=click.Path(path_type=Path), help="Where it goes. [default: build/blob.tcb; with --c build/c]")
@click.option("--c", "state", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Make C of what `pull` left.")
@click.option("--blob", default="build/blob.tcb", type=click.Path(path_type=Path), help="With --c: the blob of that board.")
@click.option("--name", default="model", help="With --c: what the header and its function are called.")
def export(
    data: str,
    data_dir: Path | None,
    backbone: Path,
    synthetic: Path,
    max_classes: int | None,
    samples: int,
    target: float | None,
    out: Path | None,
    state: Path | None,
    blob: Path,
    name: str,
) -> None:
    """Export the blob: weights, synthetic samples, names, growth ladder, memory plan. With --c, export what a board has learned
    as C, through emlearn: a header with its predictions, to the bit."""
    if state:
        _export_c(state, blob, out or Path("build/c"), name)
        return
    out = out or Path("build/blob.tcb")
    from tinycl import pipeline
    from tinycl.errors import DataError
    from tinycl.model.export import Settings
    from tinycl.progress import stage
    from tinycl.shared import plan
    from tinycl.shared.blob import RUNG_INTS, Blob

    found, saved = _load_backbone(backbone, data, data_dir)
    try:
        with np.load(synthetic, allow_pickle=False) as stored:
            made = stored["synthetic"]
    except (OSError, ValueError, KeyError) as e:
        raise DataError(f"'{synthetic}' is not what 'tinycl distil' leaves ({e}): run it again") from e
    settings = pipeline.with_room(Settings(), max_classes or len(found.classes), samples, made.shape[1])
    if target is not None:
        settings = replace(settings, target=target)
    with stage("training the base head") as update:
        data_bytes = pipeline.make_blob(found, saved.base, saved.backbone, made, settings, progress=update)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data_bytes)
    parsed = Blob(data_bytes)
    click.echo(f"{out}: {len(data_bytes):,} bytes, id {parsed.id:08x}")
    for top in range(len(parsed.rungs) // RUNG_INTS):
        click.echo(f"  plan up to rung {top}: {plan.total_bytes(plan.buffers(parsed, top)):,} bytes of RAM")


def _export_c(state: Path, blob: Path, out: Path, name: str) -> None:
    from tinycl import ccode
    from tinycl.learned import Learned

    model = ccode.generate(Learned(state.read_bytes()), blob.read_bytes(), name)
    files = ccode.write(model, out)
    click.echo(
        f"{out / name}.h: {len(model.classes)} classes, {model.flash_bytes:,} bytes of tables ({model.head_bytes:,} of them "
        f"emlearn's head), {model.ram_bytes:,} bytes of buffers; {len(files) - 1} files of emlearn beside it"
    )


@click.command()
@data_options
@click.option("--seeds", default=1, type=click.IntRange(1), help="Runs with this many seeds, from --seed on; means on top.")
@click.option("--samples", type=click.IntRange(1), help="Samples per enrolled class. [default: 15; mnist 60]")
@click.option("--per-class", type=click.IntRange(1), help="Distilled samples per base class. [default: 15; mnist 60]")
@click.option("--classes", default="", help="Unseen classes to enrol, in this order, as a,b,c. [default: all]")
@click.option("--method", default="dm", help="Distiller: dm, frepo, dc, kmeans, herding or random.")
@click.option("--target", default=None, type=click.FloatRange(0, 1), help="Validation accuracy below which the model grows.")
@click.option("--kernels", default="", help="Kernels of the board: native, viper, ulab or plain. [default: its best]")
@click.option("--board", "kind", default="sim", type=click.Choice(["sim", "rp2040"]), help="The simulated or emulated board.")
@sim_options
@click.option("--flash", type=click.Path(path_type=Path), help="Where the board's flash is kept. [default: a temporary place]")
@click.option("--out", default="out/demo", type=click.Path(path_type=Path), help="Folder for the report.")
@json_option
def demo(
    data: str,
    data_dir: Path | None,
    base: int | None,
    seed: int,
    seeds: int,
    samples: int | None,
    per_class: int | None,
    classes: str,
    method: str,
    target: float | None,
    kernels: str,
    kind: str,
    micropython: str | None,
    heap_kb: int | None,
    flash: Path | None,
    out: Path,
    as_json: bool,
) -> None:
    """The main job: distil, send the blob to a board, enrol the unseen classes live, report."""
    from tinycl import demo as main_job
    from tinycl.board.pick import embedded
    from tinycl.progress import console

    found = load(data, data_dir, seed)
    chosen = main_job.preset(found, base=base, method=method)
    if samples:
        chosen = replace(chosen, samples=samples)
    if per_class:
        chosen = replace(chosen, per_class=per_class)
    if target is not None:
        chosen = replace(chosen, settings=replace(chosen.settings, target=target))
    if classes:
        chosen = replace(chosen, classes=tuple(name.strip() for name in classes.split(",")))
    for one in range(seed, seed + seeds):
        main_job.check(replace(chosen, seed=one))
    runs = []
    for one in range(seed, seed + seeds):
        board = embedded(kind, kernels, flash, micropython, heap_kb)
        made, pictures = main_job.run(replace(chosen, seed=one), board)
        runs.append((made, pictures))
    whole = main_job.summarise([made for made, _ in runs])
    main_job.save(whole, runs[0][1], out)
    console.print(
        f"final accuracy {100 * whole['final_accuracy']:.1f} %, joint {100 * whole['joint_accuracy']:.1f} %, "
        f"forgetting {100 * whole['forgetting']:.1f} points, worst class {100 * whole['worst_class_accuracy']:.0f} %, "
        f"{whole['seconds']:.0f} s; see {out}/report.html"
    )
    if as_json:
        click.echo(json.dumps(whole))


COMMANDS = (train, distil, export, demo)
