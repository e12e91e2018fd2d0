"""`sparc-train`: from an activation cache to a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from sparc.common import heap
from sparc.common.cli.app import command, new_app, overwrite_option
from sparc.common.cli.completion import autocompletion
from sparc.common.cli.output import confirm, display
from sparc.common.cli.suggestions import artefacts
from sparc.common.errors import ConfigError
from sparc.train.align.config import AlignConfig
from sparc.train.config import TrainConfig
from sparc.train.export.config import ExportConfig
from sparc.train.importing.config import ImportConfig
from sparc.train.join.config import JoinConfig
from sparc.train.match.config import MatchConfig
from sparc.train.save.config import SaveConfig

app = new_app("Train one dictionary of sparse latents shared by the streams of a cache.")

_CACHES = autocompletion(artefacts("cache"))
_RUNS = autocompletion(artefacts("run"))

Cache = Annotated[
    str,
    typer.Argument(
        metavar="CACHE", help="An activation cache: folder or URL.", autocompletion=_CACHES
    ),
]
Run = Annotated[
    str, typer.Argument(metavar="RUN", help="The run: folder or URL.", autocompletion=_RUNS)
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="A finished run, a saved model, or a hub repository.",
        autocompletion=_RUNS,
    ),
]
Out = Annotated[str, typer.Argument(metavar="OUT", help="The resulting model: folder or URL.")]
Exported = Annotated[
    Path,
    typer.Argument(metavar="OUT", help="Where each stream gets a folder.", file_okay=False),
]
File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Its file with weights, or the folder of that.")
]
Moved = Annotated[
    str,
    typer.Option(
        "--cache",
        metavar="CACHE",
        help="Where the cache is, if it has moved or lies behind a URL.",
        show_default=False,
        autocompletion=_CACHES,
    ),
]
Overwrite = Annotated[bool, overwrite_option("run")]
Grid = Annotated[
    Path | None,
    typer.Option(
        "--sweep",
        metavar="FILE.toml",
        help="Train a model for every combination of the values listed in this file, such as "
        "k = [32, 64], on one pass over the data; each gets its own folder below RUN.",
    ),
]


@command(app, TrainConfig, "train", prepare=[heap.share])
def run(
    cache: Cache, run: Run, config: TrainConfig, sweep: Grid = None, overwrite: Overwrite = False
) -> None:
    """Train a model, or resume an interrupted run."""
    from sparc.common.files.folder import Folder
    from sparc.train import job

    if sweep is not None and overwrite:
        raise ConfigError("--overwrite is for a single run: remove the sweep's folder by hand")
    if overwrite and Folder(run).exists():
        confirm(f"Remove the run in {run}?")
    if sweep is None:
        job.run(cache, run, config, overwrite=overwrite)
    else:
        job.run_sweep(cache, run, config, sweep)


@command(app, prepare=[heap.share])
def resume(run: Run, cache: Moved = "") -> None:
    """Resume an interrupted run or sweep."""
    from sparc.train import job

    job.resume(run, cache=cache)


@command(app, AlignConfig, "align")
def align(source: Source, cache: Cache, out: Out, config: AlignConfig) -> None:
    """Refit a trained model's encoders so that independent codes agree."""
    from sparc.train.align.command import align_run

    align_run(source, cache, out, config)


@command(app, MatchConfig, "match")
def match(source: Source, cache: Cache, out: Out, config: MatchConfig) -> None:
    """Renumber the latents of each stream so that they correspond."""
    from sparc.train.match.command import match_run

    match_run(source, cache, out, config)


@command(app, JoinConfig, "join", prepare=[heap.share])
def join(source: Source, cache: Cache, out: Out, config: JoinConfig) -> None:
    """Teach a trained model a further stream; the others stay."""
    from sparc.train.join.command import join_run

    join_run(source, cache, out, config)


@command(app, SaveConfig, "save")
def save(source: Source, out: Out, config: SaveConfig) -> None:
    """Save a model, or some of its streams, without its run."""
    from sparc.train.save.command import save_run

    save_run(source, out, config)


@command(app, ExportConfig, "export")
def export(source: Source, out: Exported, config: ExportConfig) -> None:
    """Write a model's streams as dictionaries of another program."""
    from sparc.train.export.command import export_run

    export_run(source, out, config)


@command(app, ImportConfig, "import_dictionary", name="import")
def import_dictionary(file: File, out: Out, config: ImportConfig) -> None:
    """Make a model of a dictionary that another program trained."""
    from sparc.train.importing import command

    command.import_dictionary(file, out, config)


@command(app)
def inspect(run: Run) -> None:
    """Show a run or model, its progress and latest metrics."""
    from sparc.train.run.run_summary import describe_folder

    display(describe_folder(run))


if __name__ == "__main__":
    app()
