"""Models of untrusted origin: their code is never run, and they read no files but their own.

Besides weights, the folder or hub repository of a model holds settings that the model libraries
obey: they import a Python file (`auto_map`), fetch compiled kernels, or read files or repositories
elsewhere. Every loader passes through here, by way of `hub.loading`.
"""

import base64
import contextlib
import importlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from sparc.common.streams.places import WEIGHTS_SUFFIXES
from sparc.common.text import shorten

CODE_REFUSED = (
    "the model comes with Python code of its own, and SPARC never runs code that comes with a model"
)

_LARGEST_DOCUMENT = 128_000_000
"""Most bytes of a file other than weights; the largest known tokenizers take 35 MB."""

MOST_LAYERS = 1000
"""More layers than any trained model has; libraries would build any number, one by one."""

MOST_GROWTH = 1000
"""How many times longer a tokenizer may make a text before splitting it; known ones: about 40."""

_GUARDED = ("get_cached_module_file", "get_class_in_module")
"""The functions of transformers that copy or import a model's Python file."""

_QUESTION_TIMEOUT = "TIME_OUT_REMOTE_CODE"
"""Seconds that transformers waits for an answer to "run the code?"; with 0 it does not ask."""


class ModelRefusedError(Exception):
    """A model's files ask for something that SPARC refuses; `hub.loading` adds the model's name."""


_LOCK = threading.RLock()


@contextlib.contextmanager
def no_foreign_code() -> Iterator[None]:
    """Context in which transformers neither imports a model's Python file nor asks whether to.

    This holds whatever `trust_remote_code` is passed: open_clip passes settings of a model's files
    on to transformers.

    Raises:
        ModelRefusedError: The installed transformers lacks the functions that are guarded, so it
            may run code in another way.
    """
    try:
        dynamic = importlib.import_module("transformers.dynamic_module_utils")
    except ImportError:  # without transformers nothing here can import a model's file
        yield
        return
    if missing := [name for name in (*_GUARDED, _QUESTION_TIMEOUT) if not hasattr(dynamic, name)]:
        raise ModelRefusedError(
            f"the installed transformers lacks {missing[0]}, by which SPARC keeps it from running "
            "code that comes with a model: install another version"
        )
    # One thread at a time: two that restored in the wrong order would lift the guard.
    with _LOCK, contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(dynamic, _QUESTION_TIMEOUT, 0))
        for name in _GUARDED:
            stack.enter_context(mock.patch.object(dynamic, name, _refuse_code))
        yield


def is_about_code(error: BaseException) -> bool:
    """Whether a library failed because code that comes with a model was not run."""
    return "trust_remote_code" in str(error)


def check_folder(folder: Path) -> None:
    """Refuse a model's folder that refers to files elsewhere, or has other than regular files.

    Raises:
        ModelRefusedError: A link leads out of the folder, an entry is a pipe or a device, a
            document is larger than any known, an index of weights names files elsewhere, or a
            tokenizer would make a short text huge.
    """
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and not _stays(entry, folder):
            raise ModelRefusedError(
                f"{shorten(str(entry), 300)} is a link that leads out of the model's folder: put "
                "the file itself there"
            )
        if entry.is_dir():
            continue
        if not entry.is_file():
            raise ModelRefusedError(f"{shorten(str(entry), 300)} is not a regular file")
        is_weights = entry.suffix in WEIGHTS_SUFFIXES
        if not is_weights and entry.suffix and entry.stat().st_size > _LARGEST_DOCUMENT:
            raise ModelRefusedError(
                f"{shorten(str(entry), 300)} is larger than any file of a model beside its weights"
            )
        if entry.name.endswith(".index.json"):
            _check_index(entry)
        if entry.name == "tokenizer.json":
            _check_growth(read_document(entry).get("normalizer"), entry)


def check_transformers_config(config: Mapping[str, Any]) -> None:
    """Refuse a `config.json` of transformers that fetches kernels or names weights elsewhere.

    Raises:
        ModelRefusedError: It does, its weights are quantized, or it has more layers than any model.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            if key == "quantization_config":
                raise ModelRefusedError(
                    "its weights are quantized: save them as float32 or float16"
                )
            check_transformers_config(value)
        elif key.endswith(("attn_implementation", "experts_implementation")):
            if isinstance(value, str) and ("/" in value or "flash" in value):
                raise ModelRefusedError(
                    f"its config.json asks for kernels from a hub ({key}: {shorten(value, 80)}), "
                    "which are code: remove that setting"
                )
        elif ("layers" in key or "depth" in key) and (most := _largest_count(value)) > MOST_LAYERS:
            raise ModelRefusedError(f"its config.json asks for {most:,} layers ({key})")
        elif key == "transformers_weights" and value is not None and not is_plain_name(value):
            raise ModelRefusedError(
                f"its config.json names weights elsewhere: {shorten(str(value), 80)}"
            )


def _largest_count(value: Any) -> int:
    """The largest whole number of a setting that is one or a list of some, as by stage; else 0."""
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if isinstance(number, int)), default=0)


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object from a model's folder.

    Raises:
        ModelRefusedError: It does not exist, or is not a JSON object.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise ModelRefusedError(f"{shorten(str(path), 300)} does not hold a JSON object")
    return document


def read_json(path: Path) -> Any:
    """What a JSON file from a model's folder holds.

    Raises:
        ModelRefusedError: It is not a regular file, is larger than any known, or is not JSON.
    """
    try:
        if not path.is_file():
            raise ModelRefusedError(f"{shorten(str(path), 300)} is not a regular file")
        if path.stat().st_size > _LARGEST_DOCUMENT:
            raise ModelRefusedError(f"{shorten(str(path), 300)} is too large")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefusedError(
            f"cannot read {shorten(str(path), 300)}: {shorten(str(error), 120)}"
        ) from error


def _refuse_code(*_: Any, **__: Any) -> NoReturn:
    raise ModelRefusedError(CODE_REFUSED)


def _stays(link: Path, folder: Path) -> bool:
    """Whether a link leads to a file of the folder, or of the hub's cache that the folder is in."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    allowed = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":  # models--org--name/snapshots/REVISION
        allowed.append(folder.resolve().parents[1] / "blobs")
    return any(target.is_relative_to(place) for place in allowed)


def _check_index(path: Path) -> None:
    files = read_document(path).get("weight_map", {})
    for name in files.values() if isinstance(files, dict) else ():
        if not is_plain_name(name):
            raise ModelRefusedError(
                f"{shorten(str(path), 300)} names weights elsewhere: {shorten(str(name), 80)}"
            )


def _check_growth(normalizer: Any, path: Path) -> None:
    """Refuse a normalizer that turns a word into gigabytes in a few steps."""
    growth, waiting = 1.0, [normalizer]
    while waiting:
        step = waiting.pop()
        if isinstance(step, Mapping):
            growth *= _growth(step)
            inner = step.get("normalizers")
            waiting.extend(inner if isinstance(inner, list) else ())
    if growth > MOST_GROWTH:
        raise ModelRefusedError(
            f"{shorten(str(path), 300)} makes texts more than {MOST_GROWTH} times longer"
        )


def _growth(step: Mapping[str, Any]) -> float:
    """How many times longer one step of a normalizer makes a text, at most."""
    match step.get("type"):
        case "Replace":
            pattern = step.get("pattern")
            old = pattern.get("String") if isinstance(pattern, Mapping) else None
            content = len(str(step.get("content", "")))
            # An expression may match between any two characters, as the empty text does.
            return max(1.0, content / len(old)) if isinstance(old, str) and old else 1 + content
        case "Prepend":
            return 1 + len(str(step.get("prepend", "")))
        case "NFD" | "NFKD" | "NFC" | "NFKC":
            return 18  # U+FDFA, of all characters
        case "Precompiled":
            return _longest_replacement(step.get("precompiled_charsmap"))
    return 1


def _longest_replacement(charsmap: Any) -> float:
    """Length of the longest text that a sentencepiece table substitutes for a character."""
    try:
        content = base64.b64decode(charsmap)
    except (TypeError, ValueError):
        return 1  # the tokenizer will refuse it
    texts = content[4 + int.from_bytes(content[:4], "little") :]
    return max(1, *map(len, texts.split(b"\0")))


def is_plain_name(name: Any) -> bool:
    """Whether a name that a model's file gives leads to an entry of the same folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\"} & {*name}
