"""How commands are looked up, and what was meant where there is none of that name."""

import dataclasses
import difflib
import functools
import os
import shlex
from shutil import get_terminal_size
from typing import Any

from typer.core import TyperCommand, TyperGroup

from sparc.common.cli.completion import answering_shell
from sparc.common.cli.options import flag_of
from sparc.common.cli.usage import one_line_usage

_CLOSE = 0.65
"""How alike a command and what was typed must be at least, if arguments follow as of `run`."""


_NARROW = 80
"""Columns of a terminal in which an option and what it does have room beside each other."""

_OPTION_COLUMNS = 12
"""Of a narrower one, those of options: what it does begins below an option that is longer."""

_SENTENCE = 500
"""Characters of the first sentence of a help, which a list of commands shows whole."""


class _Plain:
    """A command that refuses in one line, and whose help can be read in a narrow terminal, too."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse what was typed."""
        with one_line_usage():
            return super().make_context(*args, **kwargs)  # type: ignore[misc]

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        with one_line_usage():
            return super().invoke(ctx)  # type: ignore[misc]

    def get_help(self, ctx: Any) -> str:
        """What `--help` shows."""
        formatter = ctx.make_formatter()
        columns = get_terminal_size().columns
        if columns < _NARROW:
            formatter.width = columns - 2
            formatter.write_dl = functools.partial(formatter.write_dl, col_max=_OPTION_COLUMNS)
        self.format_help(ctx, formatter)  # type: ignore[attr-defined]
        return str(formatter.getvalue().rstrip("\n"))


class Commands(_Plain, TyperGroup):
    """Commands; one that was left out is told from one that is misspelt."""

    def _main_shell_completion(
        self, ctx_args: Any, prog_name: str, complete_var: str | None = None
    ) -> None:
        variable = complete_var or f"_{prog_name}_COMPLETE".replace("-", "_").upper()
        with answering_shell(variable):
            super()._main_shell_completion(ctx_args, prog_name, variable)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, each with a whole sentence."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        rows = [(name, one.get_short_help_str(_SENTENCE)) for name, one in commands.items() if one]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is asked for."""
        name = args[0] if args else ""
        several = sum(not argument.startswith("-") for argument in args) > 1
        cutoff = _CLOSE if several else 0.6  # `cache RUN` rather means a folder than `match`
        misspelt = difflib.get_close_matches(name, self.commands, cutoff=cutoff)
        if ctx.resilient_parsing:  # a shell asks what may follow
            return super().resolve_command(ctx, args)
        if name in self.commands or misspelt:
            return super().resolve_command(ctx, args)
        others_are_places = any(map(os.path.exists, args[1:]))
        is_place = os.path.exists(name) or (several and not others_are_places)
        if is_place and "run" in self.commands:
            meant = f"{ctx.command_path} run {shlex.join(args)}"
            ctx.fail(f"No such command {name!r}; did you mean `{meant}`?")
        if not name.startswith("-"):
            ctx.fail(f"No such command {name!r}; there are {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


def command_class(config_class: type | None) -> type[TyperCommand]:
    """A command whose first setting is what people type without its option."""
    hint = _first_question(config_class)

    class Asking(_Plain, TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            # A shell asks for the value of the last option: with it, typer would parse no argument.
            if ctx.resilient_parsing and args and args[-1].startswith("-"):
                args = args[:-1]
            try:
                return super().parse_args(ctx, args)
            except Exception as error:
                message = getattr(error, "message", "")
                if hint and message.startswith("Got unexpected extra argument"):
                    extra = message.partition("(")[2].partition("(")[2].removesuffix(")")
                    error.message = f"{message}; did you mean {hint} {shlex.quote(extra)}?"  # type: ignore[attr-defined]
                raise

    return Asking


def _first_question(config_class: type | None) -> str:
    """The option of a command's first setting if that has no default: what the command is asked."""
    first = next(iter(dataclasses.fields(config_class)), None) if config_class else None
    return flag_of(first) if first is not None and first.default in (None, "") else ""
