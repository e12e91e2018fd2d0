"""Settings that several commands of `sparc-analyze` share, each declared once.

A command's configuration lists its own settings first, then those that it takes from here in the
order of this module, so that every `--help` names the same things alike and in the same order.
"""

from pathlib import Path
from typing import Any

from sparc.analyze.report.renderers.registry import RENDERERS
from sparc.common.cli.suggestions import artefacts, constants, devices, streams
from sparc.common.config import option
from sparc.common.errors import ConfigError
from sparc.common.timing.file import OPTION_HELP


def template(default: str, of: str) -> Any:
    """The text that is encoded for a word or a class."""
    return option(default, f"The text that is encoded; {{}} stands for {of}.")


def names() -> Any:
    """How many words name a latent."""
    return option(10, "Largest number of words that name a latent.")


def source(default: str, *, former: str | None = None) -> Any:
    """The stream through which a query goes; `default` says which one it is if none is named."""
    return option(
        "",
        f"The stream that encodes the query; {default} by default.",
        flag="--from",
        former=former,
        suggest=streams,
    )


def out_file() -> Any:
    """A file for the command's one table."""
    return option(None, "Write the table to this Parquet file, a path or URL.")


def out_folder(of: str, default: Path | None = None, *, former: str | None = None) -> Any:
    """A folder for what the command makes."""
    return option(default, f"Folder for {of}.", former=former)


def summary() -> Any:
    """A file for the summary of reports, beside what is printed."""
    return option(
        None,
        f"Write the summary to this file, too; its suffix says how: {', '.join(RENDERERS)}.",
        changeable=True,
    )


def timings() -> Any:
    """A file for where the time goes."""
    return option(None, OPTION_HELP, changeable=True)


def sheet() -> Any:
    """A contact sheet of the command's images."""
    return option(None, "Draw the images to this PNG file.")


def specs() -> Any:
    """Encoders by hand, as `sparc.analyze.recorded_encoders.specs_by_stream` reads them."""
    return option(
        (),
        "Encoder of a stream, in quotes, instead of the recorded one: 'NAME=SPEC', or 'SPEC' where "
        "only one stream can be meant; repeat for more.",
        flag="--spec",
    )


def trust_encoders() -> Any:
    """Consent to build encoders from places that an artefact names."""
    return option(
        False,
        "Also build encoders from files, folders and hub repositories that the cache or run "
        "names: its maker chose them.",
    )


def moved_run() -> Any:
    """The report's run."""
    return option("", "Where the report's run is, if it has moved.", suggest=artefacts("run"))


def moved_cache() -> Any:
    """The report's cache."""
    return option("", "Where the report's cache is, if it has moved.", suggest=artefacts("cache"))


def moved_dataset() -> Any:
    """The cache's dataset, whose images are opened."""
    return option("", "Where the cache's dataset is, if it has moved.")


def seed(of: str) -> Any:
    """The seed of what is drawn at random."""
    return option(42, f"Seed of {of}.")


def device(of: str) -> Any:
    """Where PyTorch computes."""
    return option(
        "auto", f"Where {of}: auto, cpu, cuda, cuda:1, …", changeable=True, suggest=devices
    )


def scheduler() -> Any:
    """What runs a pass over the codes."""
    return option(
        "threads",
        "Scheduler of the reductions: threads, sync, or a Dask cluster such as tcp://host:8786.",
        changeable=True,
        suggest=constants("threads", "sync"),
    )


def workers() -> Any:
    """How many threads do."""
    return option(0, "Threads of --scheduler threads; 0: one per core.", changeable=True)


# ---------------------------------------------------------------------- their rules


def check_at_least(config: Any, least: int, *names: str) -> None:
    """Refuse smaller numbers.

    Raises:
        ConfigError: A setting is below `least`.
    """
    for name in names:
        value = getattr(config, name)
        if value < least:
            rule = "must not be negative" if least == 0 else f"must be at least {least}"
            raise ConfigError(f"{name} {rule}, not {value}")


def check_template(template: str, of: str) -> None:
    """Refuse a template without a place for the word.

    Raises:
        ConfigError: It has none.
    """
    if "{}" not in template:
        raise ConfigError(f"template must hold {{}} for {of}, not {template!r}")


def check_sheet(sheet: Path | None) -> None:
    """Refuse a contact sheet that is not called like a PNG file.

    Raises:
        ConfigError: It is not.
    """
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"the sheet is a PNG file: its name must end in .png, {sheet}")


def check_scheduler(scheduler: str) -> None:
    """Refuse a scheduler that is neither a known one nor an address.

    Raises:
        ConfigError: It is neither.
    """
    if scheduler not in ("threads", "sync") and "://" not in scheduler:
        raise ConfigError(
            "scheduler must be threads, sync or a cluster's address such as tcp://host:8786, not "
            f"{scheduler!r}"
        )
