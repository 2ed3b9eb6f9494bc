"""`tinycl bench paper`: the paper's experiments as one command."""

import json
from pathlib import Path

import click

from tinycl.cli.options import json_option
from tinycl.errors import UserError


@click.group("bench")
def bench_group() -> None:
    """Run the experiments."""


@bench_group.command()
@click.option("--data", "names", default="", help="Data sets as a,b,c. [default: the paper's five]", show_default=False)
@click.option("--data-dir", help="Folder with a folder for each data set. [default: $TINYCL_DATA or ./data]")
@click.option("--seeds", default=5, type=click.IntRange(1, 100), help="Runs of each data set.")
@click.option("--quick", is_flag=True, help="One seed, and two distillers only.")
@click.option("--jobs", default=2, type=click.IntRange(1, 256), help="Cells at the same time.")
@click.option("--cluster", default="", metavar="ADDRESS", help="Run the cells on this Dask cluster.")
@click.option("--out", default="out/bench", type=click.Path(path_type=Path), help="Folder for the results.")
@json_option
def paper(names: str, data_dir: str | None, seeds: int, quick: bool, jobs: int, cluster: str, out: Path, as_json: bool) -> None:
    """The paper's claims on its data sets, against fixed models and other continual learners; stopped, it goes on where it was.

    Leaves paper.json, paper.html and its pictures.
    """
    from tinycl.bench.paper import main
    from tinycl.bench.paper.setting import DATA

    chosen = tuple(names.split(",")) if names else DATA
    if len(set(chosen)) != len(chosen):
        raise UserError(f"{len(chosen)} data sets, {len(set(chosen))} different ones: name each once in --data")
    summary = main.run(out, chosen, seeds, quick, jobs, cluster, data_dir, tell=lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(json.dumps(summary, indent=1))
    else:
        click.echo(f"{out / 'paper.json'} and {out / 'paper.html'}")


@bench_group.command()
@click.option("--data", "names", default="har,mnist", help="Data sets as a,b,c.")
@click.option("--data-dir", help="Folder with a folder for each data set. [default: $TINYCL_DATA or ./data]")
@click.option("--seeds", default=2, type=click.IntRange(1, 100), help="Runs of each data set.")
@click.option("--compression/--no-compression", default=True, help="Also accuracy against bytes, for every distiller.")
@click.option("--out", default="out/bench", type=click.Path(path_type=Path), help="Folder for the results.")
@json_option
def checks(names: str, data_dir: str | None, seeds: int, compression: bool, out: Path, as_json: bool) -> None:
    """Does growth come when it should, under label noise, sensor noise and drift; and accuracy against compression.

    Leaves checks.json and checks.png; stopped, it goes on where it was.
    """
    from tinycl.bench.paper import checks as module

    found = module.run(out, tuple(names.split(",")), seeds, data_dir, lambda text: click.echo(text, err=True), compression)
    click.echo(json.dumps(found, indent=1) if as_json else str(out / "checks.json"))
