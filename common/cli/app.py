"""Applications and their commands.

Every command of SPARC is declared with `command(app, ConfigClass, "table")` on a function whose
parameters are the positional arguments and a last one called `config`. The decorator adds an
option for each field of the class, `--config FILE.toml` and `--debug`, and turns a `SparcError`
into one line on standard error and exit status 2.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sparc.common.cli.groups import Commands, command_class
from sparc.common.cli.one_line import one_line_errors, standard_streams
from sparc.common.cli.options import DEBUG, options_of, typed_settings
from sparc.common.config import load_config
from sparc.common.errors import ConfigError, on_command_line
from sparc.common.files.paths import path_here

Function = Callable[..., None]


def _show_version(asked: bool) -> None:
    if asked:
        from sparc.common.versions import version_line  # looked up where it is asked for

        typer.echo(version_line())
        raise typer.Exit


IN_ALL = {"help_option_names": ["-h", "--help"], "max_content_width": 100, "color": False}
"""What typer's contexts are alike in, in every program."""

VERSION = typer.Option(
    "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
)
"""The option of every program that says its version."""


class Program(typer.Typer):
    """A typer application that can be started without a terminal, and stopped by its reader."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it with what was typed."""
        # Else it ends with an escape sequence, with colorama installed: nothing here is coloured.
        os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
        with standard_streams():
            return super().__call__(*args, **kwargs)


def new_app(help: str, lookup: type[Commands] = Commands) -> Program:
    """A typer application in the style of all SPARC commands.

    Args:
        help: What its commands are for.
        lookup: How its commands are looked up.
    """
    app = Program(
        cls=lookup,
        help=help,
        no_args_is_help=True,
        context_settings=IN_ALL,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def group(version: Annotated[bool, VERSION] = False) -> None:
        # A callback keeps `sparc-extract run …` a subcommand even while an app has only one.
        pass

    return app


def overwrite_option(kind: str) -> Any:
    """The option `--overwrite` of a command that makes a folder of a kind, such as `run`."""
    return typer.Option(
        "--overwrite",
        help=f"Remove the {kind} that the folder holds, whatever it is of; asks on a terminal.",
    )


def command(
    app: typer.Typer,
    config_class: type | None = None,
    table: str = "",
    *,
    name: str | None = None,
    prepare: Sequence[Callable[[], None]] = (),
) -> Callable[[Function], Function]:
    """Register a function as a command of `app`.

    Args:
        app: From `new_app`.
        config_class: The command's configuration dataclass; None for a command without settings.
        table: The table of the `--config` file that holds its settings.
        name: The command's name where it is not the function's.
        prepare: What sets something for the whole process, called before the function. Functions
            that a notebook may call set no such thing.
    """

    def register(function: Function) -> Function:
        positional = list(inspect.signature(function, eval_str=True).parameters.values())
        if config_class is not None:
            positional = [p for p in positional if p.name != "config"]

        @functools.wraps(function)
        def run(**arguments: Any) -> None:
            debug = arguments.pop("debug")
            with one_line_errors(debug=debug), on_command_line():
                _refuse_empty(positional, arguments)
                arguments = {name: _placed(value, name) for name, value in arguments.items()}
                if config_class is not None:
                    path = arguments.pop("config")
                    typed = typed_settings(config_class, arguments)
                    arguments["config"] = load_config(config_class, table, path, typed)
                for set_up in prepare:
                    set_up()
                function(**arguments)

        parameters = [*positional, *options_of(config_class, table), DEBUG]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        # Typer follows __wrapped__ to the original annotations; ours must win.
        del run.__wrapped__
        app.command(name, cls=command_class(config_class))(run)
        return function

    return register


def _refuse_empty(positional: Sequence[inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    """Refuse a place that is an empty text, as of a shell's variable that is not set.

    Raises:
        ConfigError: One is.
    """
    for parameter in positional:
        if parameter.default is parameter.empty and arguments[parameter.name] == "":
            raise ConfigError(f"{parameter.name.upper()} is empty: name a folder or URL")


def _placed(value: Any, name: str) -> Any:
    """A path as it is meant; anything else as it is."""
    return path_here(value, name.replace("_", "-")) if isinstance(value, Path) else value
