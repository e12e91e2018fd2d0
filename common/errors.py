"""The exceptions of SPARC: one base class, a few kinds that a caller may want to distinguish.

A message is one line that says what is wrong, where (file, row, stream) and what to do about it.
The command line prints that line and ends with status 2; see `sparc.common.cli`.
"""


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


class RunError(SparcError):
    """A run folder that is missing, damaged, or trained with other settings."""


class ReportError(SparcError):
    """A report folder that is missing, incomplete, or made from something else."""
