"""The command `sparc`: lists the others and hands over to them.

`sparc extract run …` is `sparc-extract run …`. Nothing of a stage is imported before it is called.
"""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import NamedTuple

from sparc.common.cli.one_line import standard_streams
from sparc.common.lazy import import_home


class Stage(NamedTuple):
    """One of the commands.

    Attributes:
        home: Its typer application, as `module:name`.
        help: What it does, in a line.
        example: How it is typed.
    """

    home: str
    help: str
    example: str


STAGES: Mapping[str, Stage] = {
    "extract": Stage(
        "sparc.extract.cli:app",
        "encode images and captions with frozen encoders into a cache",
        "sparc extract run pictures/ cache --preset dinov2-clip-b",
    ),
    "train": Stage(
        "sparc.train.cli:app",
        "train one dictionary of sparse latents on a cache",
        "sparc train run cache run",
    ),
    "analyze": Stage(
        "sparc.analyze.cli:app",
        "measure a trained model, list and show its concepts, search by them",
        "sparc analyze run run cache report; sparc analyze concepts report --shared",
    ),
    "pipeline": Stage(
        "sparc.pipelines.cli:app",
        "whole experiments; a demo that needs no data and no GPU",
        "sparc pipeline demo",
    ),
    "doctor": Stage(
        "sparc.pipelines.doctor.cli:app",
        "say what this machine has (GPU, kernels, extras, hub) and how to get what is missing",
        "sparc doctor",
    ),
}


COMPLETION = ("--install-completion", "--show-completion")
"""What makes a shell complete commands at TAB."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script.

    Args:
        arguments: What was typed after `sparc`; None: what this process was called with.
    """
    with standard_streams():
        _main(sys.argv[1:] if arguments is None else arguments)


def _main(typed: Sequence[str]) -> None:
    name, *rest = typed or [""]
    if "_SPARC_COMPLETE" in os.environ or name in COMPLETION:
        import_home("sparc.pipelines.umbrella:app")(args=typed, prog_name="sparc")
    elif name in ("", "-h", "--help", "help"):
        sys.stdout.write(help_text())
    elif name == "--version":
        sys.stdout.write(f"{import_home('sparc.common.versions:version_line')()}\n")
    elif name in STAGES:
        import_home(STAGES[name].home)(args=rest, prog_name=f"sparc {name}")
    else:
        sys.stderr.write(f"error: {_unknown(name)}\n")
        raise SystemExit(2)


def help_text() -> str:
    """The commands in the order of use, each with an example."""
    width, below = get_terminal_size().columns - 1, " " * 12
    lines = ["Usage: sparc COMMAND …", ""]
    for name, stage in STAGES.items():
        lines += [
            *wrap(f"  {name:<9} {stage.help}", width, subsequent_indent=below),
            *wrap(stage.example, width, initial_indent=below, subsequent_indent=below),
            "",
        ]
    lines += wrap("sparc COMMAND --help says more; sparc-COMMAND is the same.", width)
    completes = "has your shell complete commands, options and streams at TAB."
    lines += wrap(f"sparc --install-completion {completes}", width)
    return "\n".join([*lines, ""])


def _unknown(name: str) -> str:
    """What is wrong with a command that does not exist, and what was meant."""
    meant = {stage: f"sparc {stage}" for stage in STAGES}
    for stage, command in STAGES.items():
        for info in import_home(command.home).registered_commands:
            below = info.name or info.callback.__name__.replace("_", "-")
            meant.setdefault(below, f"sparc {stage} {below}")
    near = difflib.get_close_matches(name, meant, n=1)
    advice = f"did you mean `{meant[near[0]]}`?" if near else f"there are {', '.join(STAGES)}"
    return f"sparc has no command {name!r}; {advice}"


if __name__ == "__main__":
    main()
