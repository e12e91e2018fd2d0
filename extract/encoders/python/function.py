"""A user's own function: found in its file or module, called with a spec's options, identified.

Whatever it raises becomes one line that says where. It is the user's code, and so it may do what it
likes: unlike what comes with a model, it is neither guarded nor kept from a hub.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparc.common.errors import EncoderError, SparcError
from sparc.common.text import listed, printable, shorten
from sparc.extract.encoders.python.spec import PythonSpec
from sparc.extract.encoders.spec import StreamSpec

_TRUTHS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}


@contextlib.contextmanager
def blaming(spec: StreamSpec, doing: str) -> Iterator[None]:
    """Turn what a user's code raises into one `EncoderError` that says what and where.

    A lack of memory is raised unchanged.
    """
    try:
        yield
    except (SparcError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if "out of memory" in str(error):
            raise
        *_, last = traceback.extract_tb(error.__traceback__)
        what = shorten(f"{type(error).__name__}: {' '.join(str(error).split())}", 300)
        where = printable(f"{last.filename}, line {last.lineno}")
        raise EncoderError(f"{printable(str(spec))} {doing}: {what} ({where})") from error


def function_of(spec: PythonSpec) -> Callable[..., Any]:
    """The function that a spec names; its file or module is run.

    Raises:
        EncoderError: There is no such file, module or function, or the code fails.
    """
    module = _from_file(spec) if spec.is_file else _from_module(spec)
    function = getattr(module, spec.function, None)
    if not callable(function):
        here = [
            name
            for name, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        advice = f"; its functions are {listed(here)}" if here else ""
        raise EncoderError(
            f"{printable(spec.home)} has no function {spec.function}{printable(advice)}: say which "
            f"with python:{printable(spec.home)}:FUNCTION"
        )
    return typing.cast("Callable[..., Any]", function)


@contextlib.contextmanager
def importing_beside(spec: StreamSpec) -> Iterator[None]:
    """Context in which a spec's file may import what lies beside it, as a script may."""
    if not isinstance(spec, PythonSpec) or not spec.is_file:
        yield
        return
    folder = str(Path(spec.home).absolute().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def call(function: Callable[..., Any], arguments: Sequence[str], options: Mapping[str, str]) -> Any:
    """Call a function with texts, which become numbers where it says that it takes numbers.

    Raises:
        EncoderError: It does not take these options.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    by_name = [
        name
        for name, p in parameters.items()
        if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ]
    for key in options:
        if key not in by_name and not takes_any:
            takes = f"its options are {listed(by_name)}" if by_name else "it takes none"
            raise EncoderError(f"the function has no option {printable(key)!r}: {takes}")
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # a hint may name what is imported for type checkers alone
        hints = {}
    values = {
        key: _converted(key, text, hints.get(key), parameters.get(key))
        for key, text in options.items()
    }
    try:
        inspect.signature(function).bind(*arguments, **values)
    except TypeError as error:
        raise EncoderError(
            f"the function cannot be called like this: {error}; its arguments are the options of "
            "the spec, ?NAME=VALUE&NAME=VALUE"
        ) from error
    return function(*arguments, **values)


def source_digests(function: Callable[..., Any], file: str | None = None) -> list[str]:
    """SHA-256 of the source that a function lies in, and of the file that names it, sorted.

    Empty where Python does not know the source, as for a function typed at a prompt.
    """
    sources = set()
    with contextlib.suppress(OSError, TypeError):
        path = inspect.getsourcefile(inspect.unwrap(function))
        is_file = path is not None and Path(path).is_file()
        text = Path(path).read_bytes() if path is not None and is_file else None
        sources.add(inspect.getsource(function).encode() if text is None else text)
    if file is not None:
        sources.add(Path(file).read_bytes())
    return sorted(hashlib.sha256(source).hexdigest() for source in sources)


def _from_file(spec: PythonSpec) -> types.ModuleType:
    path = Path(spec.home).absolute()
    if not path.is_file():
        raise EncoderError(f"{printable(str(spec))}: there is no file {printable(spec.home)}")
    name = f"sparc_file_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    definition = importlib.util.spec_from_file_location(name, path)
    assert definition is not None
    assert definition.loader is not None
    module = importlib.util.module_from_spec(definition)
    sys.modules[name] = module  # where pickles and dataclasses look for it
    with blaming(spec, "cannot be run"), importing_beside(spec):
        definition.loader.exec_module(module)
    return module


def _from_module(spec: PythonSpec) -> types.ModuleType:
    if importlib.util.find_spec(spec.home.partition(".")[0]) is None:
        raise EncoderError(
            f"{printable(str(spec))}: there is no module {spec.home} in this environment: install "
            "it, or name its file, as in python:FILE.py:FUNCTION"
        )
    with blaming(spec, "cannot be imported"):
        return importlib.import_module(spec.home)


def _converted(key: str, text: str, hint: Any, parameter: inspect.Parameter | None) -> Any:
    """The text as what the function's hint says, else as what its default is."""
    kinds = set(typing.get_args(hint)) or {hint}
    if hint is None and parameter is not None:
        kinds = {type(parameter.default)}
    if str in kinds:
        return text
    if bool in kinds:
        if text.lower() not in _TRUTHS:
            raise EncoderError(f"option {key} must be true or false, not {text!r}")
        return _TRUTHS[text.lower()]
    numbers = [kind for kind in (int, float) if kind in kinds]
    for kind in numbers:
        with contextlib.suppress(ValueError):
            return kind(text)
    if numbers:
        what = "a whole number" if numbers == [int] else "a number"
        raise EncoderError(f"option {key} must be {what}, not {text!r}")
    return text
