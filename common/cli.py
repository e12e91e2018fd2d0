"""The plumbing of the command lines: options from configuration classes, errors in one line.

Every command of SPARC is declared with `command(app, ConfigClass, "table")` on a function whose
parameters are the positional arguments and a last one called `config`. The decorator adds an
option for each field of the class, `--config FILE.toml` and `--debug`, and turns a `SparcError`
into one line on standard error and exit status 2.
"""

import atexit
import dataclasses
import difflib
import errno
import functools
import inspect
import select
import shlex
import signal
import sys
import types
import typing
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from sparc.common.config import load_config
from sparc.common.errors import ConfigError, SparcError, Terminated, on_command_line
from sparc.common.files.paths import path_here
from sparc.common.progress import no_bar
from sparc.common.text import printable, printable_lines

_FORMER = "former_"
"""Begins the name of a parameter for a setting's former name: no field is called so."""

_CLOSE = 0.65
"""How alike a command and what was typed must be at least, if arguments follow as of `run`."""

_format_warning = warnings.formatwarning

Function = Callable[..., None]


class _Commands(TyperGroup):
    """Commands; one that was left out is told from one that is misspelt."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        several = sum(not argument.startswith("-") for argument in args) > 1
        cutoff = _CLOSE if several else 0.6  # `cache RUN` rather means a folder than `match`
        misspelt = difflib.get_close_matches(name, self.commands, cutoff=cutoff)
        if name not in self.commands and not misspelt and "run" in self.commands:
            meant = f"{ctx.command_path} run {shlex.join(args)}"
            ctx.fail(f"No such command {name!r}; did you mean `{meant}`?")
        return super().resolve_command(ctx, args)


def _command_class(config_class: type | None) -> type[TyperCommand]:
    """A command whose first setting is what people type without its option."""
    hint = _first_question(config_class)

    class Asking(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
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


def _show_version(asked: bool) -> None:
    if asked:
        from sparc.common.versions import version_line  # looked up where it is asked for

        typer.echo(version_line())
        raise typer.Exit


_VERSION = typer.Option(
    "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
)


def new_app(help: str) -> typer.Typer:
    """A typer application in the style of all SPARC commands."""
    app = typer.Typer(
        cls=_Commands,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def group(version: Annotated[bool, _VERSION] = False) -> None:
        # A callback keeps `sparc-extract run …` a subcommand even while an app has only one.
        pass

    return app


def overwrite_option(kind: str) -> Any:
    """The option `--overwrite` of a command that makes a folder of a kind, such as `run`."""
    return typer.Option(
        "--overwrite",
        help=f"Remove the {kind} that the folder holds, whatever it is of; asks on a terminal.",
    )


def confirm(question: str) -> None:
    """Ask before something is removed, where somebody can answer: on a terminal.

    Raises:
        typer.Abort: The answer is no.
    """
    if sys.stdin.isatty() and sys.stderr.isatty():
        typer.confirm(printable(question), abort=True, err=True)


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
                arguments = {name: _placed(value, name) for name, value in arguments.items()}
                if config_class is not None:
                    path = arguments.pop("config")
                    typed = _typed(config_class, arguments)
                    arguments["config"] = load_config(config_class, table, path, typed)
                for set_up in prepare:
                    set_up()
                function(**arguments)

        parameters = [*positional, *_options(config_class, table), _DEBUG]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        # Typer follows __wrapped__ to the original annotations; ours must win.
        del run.__wrapped__
        app.command(name, cls=_command_class(config_class))(run)
        return function

    return register


def _placed(value: Any, name: str) -> Any:
    """A path as it is meant; anything else as it is."""
    return path_here(value, name.replace("_", "-")) if isinstance(value, Path) else value


class one_line_errors:  # noqa: N801 - reads as a statement, like contextlib.suppress
    """Context manager: a `SparcError` becomes one line and exit status 2.

    An interruption becomes one line that says how to continue, with the customary status: 130 for
    Ctrl-C, 143 for SIGTERM. With `debug` every exception keeps its traceback.
    """

    def __init__(self, *, debug: bool) -> None:
        self.debug = debug
        self._interruption: KeyboardInterrupt | None = None

    def __enter__(self) -> None:
        warnings.formatwarning = _printable_warning
        # Pillow warns of damaged metadata, which say nothing about an image's pixels.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        signal.signal(signal.SIGTERM, self._interrupt)
        # A shell has background commands ignore Ctrl-C: that is left as it is.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, _frame: types.FrameType | None) -> NoReturn:
        self._interruption = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        raise self._interruption

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        # All is said: `torchrun` signals processes that are about to end.
        for number in (signal.SIGINT, signal.SIGTERM):
            atexit.register(signal.signal, number, signal.SIG_IGN)
        if self.debug or error is None:
            return
        # A library that is interrupted in its midst may make an error of its own out of that.
        interruption = error if isinstance(error, KeyboardInterrupt) else self._interruption
        if interruption is not None:
            status = 143 if isinstance(interruption, Terminated) else 130
            line = "interrupted; run the same command again to continue where it stopped"
            _leave(line, status=status)
        if isinstance(error, SparcError):
            _leave(f"error: {printable(str(error))}", status=2)
        if isinstance(error, MemoryError) or _is_memory(error):
            _leave("error: this machine has not enough memory for that", status=2)
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return  # of `… | head`, say: typer ends without a word
        if isinstance(error, OSError) and error.errno is not None:
            where = f" ({error.filename})" if error.filename else ""
            advice = (
                "; make room and run the same command again to continue where it stopped"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else ""
            )
            _leave(f"error: {printable(f'{error.strerror}{where}')}{advice}", status=2)


def _printable_warning(*arguments: Any, **options: Any) -> str:
    """A library's warning, which may quote an artefact, without what moves a cursor."""
    return printable_lines(_format_warning(*arguments, **options))


def _is_memory(error: BaseException) -> bool:
    """Whether PyTorch says, in words only, that it was given no memory."""
    return isinstance(error, RuntimeError) and (
        "not enough memory" in str(error) or "out of memory" in str(error)
    )


def display(text: str) -> None:
    """Write what a command was asked for to standard output, a line break where it has one.

    Whatever else moves a cursor or colours a terminal is escaped: the text may quote what anybody
    wrote into an artefact or a dataset.
    """
    with no_bar():
        typer.echo(printable_lines(text))


def _reader_is_gone() -> bool:
    """Whether it is standard output that nobody reads any more."""
    polled = select.poll()
    polled.register(sys.stdout, 0)  # errors and hang-ups are reported without being asked for
    return bool(polled.poll(0))


def _leave(line: str, *, status: int) -> NoReturn:
    sys.stderr.write(f"{line}\n")
    raise SystemExit(status)


def _options(config_class: type | None, table: str) -> list[inspect.Parameter]:
    if config_class is None:
        return []
    hints = typing.get_type_hints(config_class)
    file_option = _keyword(
        "config",
        Path | None,
        typer.Option(
            "--config", metavar="FILE.toml", help=f"Settings from this file's [{table}] table."
        ),
    )
    fields = dataclasses.fields(config_class)
    decided = config_class() if any(f.metadata["default_by"] for f in fields) else None
    return [
        file_option,
        *(_option(f, hints[f.name], _default_shown(f, decided)) for f in fields),
        *(_former_option(f, hints[f.name]) for f in fields if f.metadata["former"]),
    ]


def _former_option(field: "dataclasses.Field[Any]", hint: Any) -> inspect.Parameter:
    """The option of a renamed setting as it was called before: it works, and no help shows it."""
    flag = "--" + field.metadata["former"].replace("_", "-")
    return _keyword(
        _FORMER + field.name, _annotation(hint), typer.Option(_both_ways(flag, hint), hidden=True)
    )


def _default_shown(field: "dataclasses.Field[Any]", config: Any) -> str:
    """The end of an option's help: its default, or nothing where that is nothing.

    Args:
        field: The field of the configuration.
        config: The configuration where nothing is given, for what another setting decides.
    """
    declared = field.metadata["default"]
    shown = "" if declared in (None, (), "") else _shown(declared)
    if decider := field.metadata["default_by"]:
        decided = _shown(getattr(config, field.name))
        if decided != shown:
            decision = f"{decider} {getattr(config, decider)}"
            shown = f"{decided or 'none'} with {decision}, else {shown or 'none'}"
    return f" [default: {shown}]" if shown else ""


def _option(field: "dataclasses.Field[Any]", hint: Any, default: str) -> inspect.Parameter:
    """The command line option of one configuration field: absent means 'as configured'."""
    flag = flag_of(field)
    # An absent option must differ from one that repeats the default, so typer's default is
    # None, and the real one is part of the help.
    choices = field.metadata["choices"]
    metavar = f"<{'|'.join(choices)}>" if choices is not None else None
    info = typer.Option(
        _both_ways(flag, hint),
        help=field.metadata["help"] + default,
        show_default=False,
        metavar=metavar,
    )
    return _keyword(field.name, _annotation(hint), info)


def flag_of(field: "dataclasses.Field[Any]") -> str:
    """What a setting is called on the command line, `--` included."""
    return str(field.metadata["flag"] or "--" + field.name.replace("_", "-"))


def _both_ways(flag: str, hint: Any) -> str:
    """A flag as typer declares it: a switch can be turned off as well."""
    return f"{flag}/--no-{flag.removeprefix('--')}" if _without_none(hint) is bool else flag


def _annotation(hint: Any) -> Any:
    """What typer converts to: None where the option is absent."""
    inner = _without_none(hint)
    return (list[get_args(inner)[0]] if get_origin(inner) is tuple else inner) | None  # type: ignore[misc]


def _typed(config_class: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The settings among typer's arguments that were typed, by field; they are taken out of these.

    Raises:
        ConfigError: One was typed under its present name and its former one.
    """
    typed: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        for argument in (field.name, _FORMER + field.name):
            value = arguments.pop(argument, None)
            if value in (None, [], ()):
                continue
            if field.name in typed:
                former = field.metadata["former"]
                raise ConfigError(f"{field.name} is given twice, once by its former name {former}")
            typed[field.name] = value
    return typed


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = [a for a in get_args(hint) if a is not type(None)]
        return inner
    return hint


def _keyword(name: str, annotation: Any, info: Any, default: Any = None) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, info],
    )


_DEBUG = _keyword(
    "debug", bool, typer.Option("--debug", help="Show the traceback of an error."), default=False
)
