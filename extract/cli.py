"""The command line of stage 1: `sparc-extract`."""

from pathlib import Path
from typing import Annotated

import typer

from sparc.common import heap
from sparc.common.cli.app import command, new_app, overwrite_option
from sparc.common.cli.completion import autocompletion
from sparc.common.cli.output import confirm, display
from sparc.common.cli.suggestions import artefacts
from sparc.extract.config import ExtractConfig
from sparc.extract.importing.config import ImportConfig

app = new_app("Encode images and captions with frozen encoders into an activation cache.")

CacheArgument = Annotated[
    str,
    typer.Argument(
        metavar="CACHE",
        help="The cache: a folder or URL.",
        autocompletion=autocompletion(artefacts("cache")),
    ),
]


@command(app, ExtractConfig, "extract", prepare=[heap.keep_large_arrays])
def run(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="The dataset: a folder or URL, or tar shards ('s3://bucket/{00000..00099}.tar').",
        ),
    ],
    cache: CacheArgument,
    config: ExtractConfig,
    overwrite: Annotated[bool, overwrite_option("cache")] = False,
) -> None:
    """Encode a dataset, or continue where an earlier run stopped."""
    from sparc.extract.datasets import open_dataset

    opened = open_dataset(dataset, config.dataset_options(cache))
    if config.dry_run:
        from sparc.extract import plan

        for line in plan.describe(opened, opened.manifest(), config):
            display(line)
        return
    from sparc.common.files.folder import Folder
    from sparc.common.progress import say
    from sparc.common.timing.timekeeper import say_if_long
    from sparc.extract import job

    if overwrite and Folder(cache).exists():
        confirm(f"Remove the cache in {cache}?")
    summary = job.run(opened, cache, config, overwrite=overwrite)
    say(str(summary))
    say_if_long(summary.timings)
    if summary.left_out:
        raise typer.Exit(1)


@command(app, ImportConfig, "import_features", name="import")
def import_features(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The file or folder of the features.")
    ],
    cache: CacheArgument,
    config: ImportConfig,
    overwrite: Annotated[bool, overwrite_option("cache")] = False,
) -> None:
    """Make a cache of features made elsewhere, or continue it."""
    from sparc.common.errors import ConfigError
    from sparc.common.files.folder import Folder
    from sparc.common.progress import say
    from sparc.common.timing.timekeeper import say_if_long
    from sparc.extract.importing import job
    from sparc.extract.importing.plan import describe, make_plan

    if config.join and overwrite:
        raise ConfigError("--join takes the rows of the cache that --overwrite would remove")
    plan = make_plan(source, config, cache)
    if config.dry_run:
        for line in describe(plan):
            display(line)
        return
    if overwrite and Folder(cache).exists():
        confirm(f"Remove the cache in {cache}?")
    for line in describe(plan):
        say(line)
    summary = job.run(plan, cache, config, overwrite=overwrite)
    say(str(summary))
    say_if_long(summary.timings)


@command(app)
def finish(cache: CacheArgument) -> None:
    """Finish a cache whose shards (`run --shard`) are all made."""
    from sparc.common.cache.shards.finish import finish as gather
    from sparc.extract.summary import contents, cut_of, reasons_of

    finished = gather(cache)
    names = finished.stream_names
    display(contents(finished, reasons_of(finished, names), cut_of(finished, names)))


@command(app)
def inspect(cache: CacheArgument) -> None:
    """Show what a cache holds, what made it, and what is missing."""
    from sparc.common.cache.reader import ActivationCache
    from sparc.extract import cache_summary

    for line in cache_summary.describe(ActivationCache(cache)):
        display(line)


@command(app)
def verify(cache: CacheArgument) -> None:
    """Read every byte of a cache and list all damage. Exit status 2 if there is any."""
    from sparc.common.cache.reader import ActivationCache
    from sparc.common.cache.shards.status import describe_shards
    from sparc.common.cache.verify import NOT_WRITTEN
    from sparc.common.cache.verify import verify as find_damage
    from sparc.common.errors import DamagedCacheError, IncompleteCacheError
    from sparc.common.progress import progress
    from sparc.common.text import amount, printable

    opened = ActivationCache(cache)
    total = opened.info.rows * (len(opened.stream_names) + bool(opened.thumbnails.chunks))
    faults = unwritten = 0
    with progress(total, "verifying") as bar:
        for damage in find_damage(opened, checked=bar.update):
            faults += 1
            unwritten += damage.what == NOT_WRITTEN
            display(printable(str(damage)))
    unfinished = list(describe_shards(opened))
    for line in unfinished:
        display(line)
    if unfinished and faults == unwritten > 0:
        raise IncompleteCacheError(
            f"{opened.folder} is not finished: {amount(unwritten, 'chunk')} not written yet, no "
            "damage in the others"
        )
    if faults:
        raise DamagedCacheError(
            f"{opened.folder}: {amount(faults, 'fault')} found; {opened.repair_advice}"
        )
    display(f"{opened.folder}: {amount(opened.info.rows, 'row')} in every stream, no damage")


if __name__ == "__main__":
    app()
