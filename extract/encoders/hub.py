"""Loading models that may come from a model hub: no long retries, and errors in one line.

This module must not know how any library builds its models.
"""

import contextlib
import logging
import pickle
import urllib.error
from collections.abc import Iterator

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from sparc.common.errors import EncoderError, SparcError
from sparc.common.text import printable, shorten
from sparc.extract.encoders.foreign import (
    CODE_REFUSED,
    ModelRefusedError,
    is_about_code,
    no_foreign_code,
)
from sparc.extract.encoders.spec import StreamSpec

PROBE_SECONDS = 5.0


@contextlib.contextmanager
def loading(spec: StreamSpec, *, from_hub: bool, advice: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises inside into one `EncoderError` about `spec`.

    No code that comes with the model runs inside. Where the hub cannot be reached its client works
    from its local cache, as if `HF_HUB_OFFLINE` were set, instead of retrying each file for half a
    minute.

    Args:
        spec: The stream that is being built.
        from_hub: Whether the model may have to come from a hub.
        advice: What a user can do without the hub; None means `spec.offline_advice`.
    """
    try:
        with (
            _quiet_root_logger(),
            # The guard imports transformers, which takes seconds.
            _guarded_transformers() if spec.may_run_transformers else contextlib.nullcontext(),
            # A local model asks the hub for nothing, whatever its files refer to.
            _offline(unless_reachable=from_hub),
        ):
            yield
    except SparcError:
        raise
    except BaseException as error:
        if not _is_failure(error):
            raise
        if (refusal := _refusal(error)) is not None:
            raise EncoderError(f"cannot build {_shown(spec)}: {refusal}") from error
        reason = _hub_reason(error)
        if reason is None:
            detail = shorten(" ".join(str(error).split()), 400)
            raise EncoderError(f"cannot build {_shown(spec)}: {detail}") from error
        raise EncoderError(
            f"cannot load {_shown(spec)}: {reason}; {printable(advice or spec.offline_advice)}"
        ) from error


@contextlib.contextmanager
def in_use(spec: StreamSpec) -> Iterator[None]:
    """Turn what a library raises while an encoder runs into one `EncoderError` about `spec`.

    A model's files may fail for some texts only: a token without an embedding, an expression that
    takes too long. A lack of memory is raised unchanged.
    """
    try:
        yield
    except (SparcError, MemoryError, OSError):
        raise
    except BaseException as error:
        if not _is_failure(error) or "memory" in str(error):
            raise
        detail = shorten(" ".join(str(error).split()), 300)
        raise EncoderError(f"{_shown(spec)} cannot encode a text: {detail}") from error


def _is_failure(error: BaseException) -> bool:
    """Whether a library failed. A panic in Rust, as in tokenizers, is not an `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def hub_is_reachable() -> bool:
    """Whether the hub answers at all, within `PROBE_SECONDS`."""
    try:
        huggingface_hub.utils.get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception:  # which types depends on the client's HTTP library
        return False
    return True


def _shown(spec: StreamSpec) -> str:
    return printable(str(spec))


def _refusal(error: BaseException) -> str | None:
    """Why SPARC refuses the model, if that is why a library failed."""
    chain = list(_chain(error))
    for e in chain:
        if isinstance(e, ModelRefusedError):
            return shorten(str(e), 700)
    if any(is_about_code(e) for e in chain):
        return CODE_REFUSED
    if any(isinstance(e, pickle.UnpicklingError) for e in chain):
        return (
            "its weights file holds more than tensors, and SPARC runs no code from weights files: "
            "save the model's state_dict as safetensors"
        )
    return None


def _hub_reason(error: BaseException) -> str | None:
    """Why the hub did not give the model; None if the hub is not to blame."""
    chain = list(_chain(error))
    if any(isinstance(e, RepositoryNotFoundError) for e in chain):
        return "the hub has no such model, or it is private or gated"
    if any(isinstance(e, LocalEntryNotFoundError) for e in chain):
        return "the model hub cannot be reached and the model is not in its local cache"
    if any(isinstance(e, EntryNotFoundError) for e in chain):
        return "the hub's model lacks a file that is needed"
    for e in chain:
        if isinstance(e, HfHubHTTPError):
            return f"the model hub refused: {shorten(str(e), 200)}"
        if isinstance(e, ConnectionError | TimeoutError | urllib.error.URLError):
            return "the model hub cannot be reached"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _offline(*, unless_reachable: bool) -> Iterator[None]:
    """Have the hub's client work offline for a while.

    timm, open_clip and transformers call it and cannot pass such an argument on: only this constant
    of the process reaches it. It is restored once the model is loaded.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not (unless_reachable and hub_is_reachable())
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def _guarded_transformers() -> Iterator[None]:
    """Keep transformers from running a model's code, and from logging.

    Its messages would quote the model's files unescaped, control codes included.
    """
    with no_foreign_code():
        try:
            from transformers.utils import logging as their_logging
        except ImportError:
            yield
            return
        level, had_bar = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
        their_logging.set_verbosity(logging.CRITICAL)
        their_logging.disable_progress_bar()
        try:
            yield
        finally:
            their_logging.set_verbosity(level)
            if had_bar:
                their_logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep open_clip from configuring the root logger, and from reporting errors twice."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
