"""The exceptions of SPARC: one base class, a few kinds that a caller may want to distinguish.

A message is one line that says what is wrong, where (file, row, stream) and what to do about it.
The command line prints that line and ends with status 2; see `sparc.common.cli.one_line`. It
speaks the language that it is answered in: what happens within `on_command_line` was typed there,
and a `setting` is an option; all else was called from Python, where it is an argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class SparcError(Exception):
    """Base class of every error that a user can act on."""


class UnsafeError(SparcError):
    """A file that no artefact holds: a link, a device, a pipe, or one that is far too long."""


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to stop: what to do about it is what Ctrl-C asks for."""


class ConfigError(SparcError):
    """A setting that is unknown, malformed or impossible together with another one."""


class UnknownSettingError(ConfigError):
    """A setting that a configuration class does not have.

    Attributes:
        setting: Its name, as given.
    """

    def __init__(self, message: str, setting: str) -> None:
        super().__init__(message)
        self.setting = setting


class DatasetError(SparcError):
    """A dataset folder that is missing or does not hold what its format promises."""


class MissingFileError(DatasetError):
    """A file that a dataset names and does not have."""


class UnavailableError(DatasetError):
    """A dataset that cannot be read any more, whatever file is asked for."""


class EncoderError(SparcError):
    """An encoder that cannot be built, or weights that do not fit it."""


class CacheError(SparcError):
    """An activation cache that is missing, of another version, or made from something else."""


class IncompleteCacheError(CacheError):
    """A cache whose extraction has not finished."""


class DamagedCacheError(CacheError):
    """A cache whose bytes are not those that were written."""


class LockedError(SparcError):
    """A folder that another process is writing to."""


class StoreError(SparcError):
    """A store behind a URL that refuses a request, or does not answer it."""


class RunError(SparcError):
    """A run folder that is missing, damaged, or trained with other settings."""


class LostProcessError(SparcError):
    """Another process of the same training ended, or cannot be reached."""


class DictionaryError(SparcError):
    """A dictionary of another program that is no such file, or does what no model of SPARC can."""


class ReportError(SparcError):
    """A report folder that is missing, incomplete, or made from something else."""


# ---------------------------------------------------------------------- settings in messages

_depth = 0
"""How many commands are running. Of the process, since its threads work for the same command."""


@contextmanager
def on_command_line() -> Iterator[None]:
    """Hold while a command runs."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def setting(option: str, argument: str = "") -> str:
    """A setting as it is typed here.

    Args:
        option: On the command line, such as `--trust-encoders` or `--rows any`.
        argument: In Python, where that is not the option's words with an equals sign, such as
            `trust_encoders=True`; of `--dead-after` it is `dead_after=`.
    """
    if _depth:
        return option
    return argument or f"{option.removeprefix('--').replace('-', '_')}="
