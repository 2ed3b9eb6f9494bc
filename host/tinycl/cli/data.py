"""What data there is, what it looks like, and whether it is sound."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from tinycl.cli.options import SEED, json_option, together
from tinycl.cli.steps import data_options, load

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    show_default=False,
    help="Folder with a folder per data set, or a data set's own. [default: $TINYCL_DATA or ./data]",
)
_out = click.option("--out", default="out/data", type=click.Path(path_type=Path), help="Folder for the picture, NAME.png.")


@click.group("data")
def data_group() -> None:
    """Data sets: which there are, what they look like, whether they are sound."""


def _lines(facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        if value not in ("", [], None):
            click.echo(f"{key:>18}  {value}")


@data_group.command("list")
@_data_dir
@json_option
def list_command(data_dir: Path | None, as_json: bool) -> None:
    """Every data set by name: what it is, its license, where to get it, and whether it was found."""
    from tinycl.data import SETS, found
    from tinycl.data.files import root

    rows = []
    for name, module in SETS.items():
        layout, folder = found(name, data_dir)
        info = module.INFO
        rows.append(
            {
                "name": name,
                "modality": info.modality,
                "sample": list(info.shape),
                "classes": info.classes,
                "license": info.license,
                "source": info.source,
                "get": info.get,
                "stand_in_for": info.stand_in_for,
                "found": layout,
                "folder": str(folder or ""),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'name':<16} {'modality':<9} {'sample':<11} {'classes':>7}  {'found':<9} license")
    for row in rows:
        shape = "x".join(map(str, row["sample"]))
        head = f"{row['name']:<16} {row['modality']:<9} {shape:<11} {row['classes']:>7}"
        click.echo(f"{head}  {row['found'] or 'no':<9} {row['license']}")
        if row["stand_in_for"]:
            click.echo(f"{'':<16} stands in for {row['stand_in_for']}")
        if not row["found"]:
            click.echo(f"{'':<16} get it from {row['get']}; put it in {root(data_dir) / row['name']}")
    click.echo("Your own: --data FILE.npz, FILE.csv (a window a line, with its label), or a folder with one folder per class.")


@data_group.command()
@data_options
@click.option("--save", type=click.Path(path_type=Path), help="Folder for samples of each class, to enrol: CLASS.npy.")
@click.option("--samples", default=15, type=click.IntRange(1), help="Samples of each class to save, from the training part.")
@_out
@json_option
def show(
    data: str, data_dir: Path | None, base: int | None, seed: int, save: Path | None, samples: int, out: Path, as_json: bool
) -> None:
    """Show a data set: shape, classes, split, license, a picture; with --save, leave samples to enrol."""
    from tinycl.data.check import counts
    from tinycl.data.picture import samples_picture
    from tinycl.pipeline import new_samples, split_classes

    found = load(data, data_dir, seed)
    count = len(found.classes)  # with two, there is none to enrol, but they can be looked at
    first, rest = split_classes(found, base, seed) if base or count > 2 else ([*range(count)], [])
    if save:
        save.mkdir(parents=True, exist_ok=True)
        for c, name in enumerate(found.classes):
            np.save(save / (name.replace("/", "_") + ".npy"), new_samples(found, c, samples, seed))
    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"{found.name}.png"
    samples_picture(found, seed=seed).savefig(picture, dpi=110)
    facts = {
        "name": found.name,
        "modality": found.modality,
        "sample": list(found.sample_shape),
        "range": [found.low, found.high],
        "train": counts(found, found.y_train),
        "test": counts(found, found.y_test),
        "base_classes": [found.classes[c] for c in first],
        "unseen_classes": [found.classes[c] for c in rest],
        "split": found.split_rule,
        "groups": found.group_kind,
        "license": found.license,
        "source": found.source,
        "stand_in_for": found.stand_in_for,
        "notes": list(found.notes),
        "picture": str(picture),
    }
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        _lines(facts)


@data_group.command()
@together(
    click.option("--data", default=None, show_default=False, help="As in `show`. [default: every data set that is found]"),
    _data_dir,
    click.option("--seed", default=0, type=SEED, help="Seed of `pairs`."),
)
@json_option
def check(data: str | None, data_dir: Path | None, seed: int, as_json: bool) -> None:
    """Check data sets: counts, range, balance, repeated samples, samples on both sides of the split.

    Files that are no such data set are an error; findings about sound files are not.
    """
    from tinycl.data import NAMES, found
    from tinycl.data.check import check as run
    from tinycl.errors import DataError

    names = [data] if data else [name for name in NAMES if found(name, data_dir)[0]]
    made, broken = [], 0
    for name in names:
        try:
            facts = run(load(name, data_dir, seed, quiet=True))
        except DataError as e:
            if data:
                raise
            broken += 1
            facts = {"name": name, "error": str(e)}
        made.append(facts)
        if not as_json:
            _lines({key: value for key, value in facts.items() if key != "findings"})
            for finding in facts.get("findings", []):
                click.echo(f"{'finding':>18}  {finding}")
            click.echo("")
    if as_json:
        click.echo(json.dumps(made[0] if data else made, indent=1))
    else:
        click.echo(f"{len(made) - broken} of {len(made)} data sets are sound")
    if broken:
        sys.exit(1)
