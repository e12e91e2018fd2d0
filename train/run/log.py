"""Where the figures of a run go: files in the run folder and, if asked for, two services.

Must not know how figures are made.
"""

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from sparc.common.config import to_mapping
from sparc.common.errors import RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.paths import path_here
from sparc.common.text import reason
from sparc.train.config import TrainConfig
from sparc.train.run.checkpoint import Logged
from sparc.train.run.log_lines import seal_line, unseal_line, unseal_lines
from sparc.train.run.metrics import line_fault
from sparc.train.run.run_folder import (
    METRICS_FILE,
    TENSORBOARD,
    TIMINGS_FILE,
    RunRecord,
    saved_steps,
)

Line = Mapping[str, Any]

_LARGEST = 1 << 30
"""Bytes of the longest log that is read: a million lines."""


class RunLog:
    """Appends lines to the files of a run.

    Args:
        run: The run's folder.
        record: The run's record.
        step: Steps made so far.
        logged: What metrics.jsonl held then; None at the beginning. Later lines, of a process
            that was interrupted, are cut off.

    Raises:
        RunError: metrics.jsonl does not begin with what it held then.
        SparcError: A service is asked for whose package is not installed.
    """

    def __init__(self, run: Folder, record: RunRecord, *, step: int, logged: Logged | None) -> None:
        self._metrics = _open_log(run, METRICS_FILE, _held(run, logged))
        self._timings = _open_log(run, TIMINGS_FILE, _until(run, step))
        self._services: list[_Service] = []
        if record.train.tensorboard:
            self._services.append(_Tensorboard(run, step))
        if record.train.wandb:
            self._services.append(_WeightsAndBiases(run, record))

    def metrics(self, line: Line) -> None:
        """Write a line of metrics.jsonl."""
        self._metrics.append(line)
        figures = {k: v for k, v in flatten(line) if not k.endswith(("step", "split"))}
        for service in self._services:
            service.write(line["step"], line["split"], figures)

    def timings(self, line: Line) -> None:
        """Write a line of timings.jsonl."""
        self._timings.append(line)
        for service in self._services:
            service.write(line["step"], "time", dict(flatten(line)))

    def sync(self) -> Logged:
        """Make sure that the lines are there; returns what metrics.jsonl holds."""
        self._timings.sync()
        return self._metrics.sync()

    def close(self) -> None:
        """Close files and services."""
        self._metrics.close()
        self._timings.close()
        for service in self._services:
            service.close()


def require_services(settings: TrainConfig, run: Folder) -> None:
    """Refuse services that cannot be had, before anything is written.

    Args:
        settings: Which services are asked for.
        run: The run's folder.

    Raises:
        SparcError: A package is not installed, or TensorBoard would write behind a URL; says what
            to do.
    """
    if settings.tensorboard:
        path_here(run.location, "with --tensorboard the run")
        _summary_writer()
    if settings.wandb:
        _wandb()


def read_lines(run: Folder, name: str = METRICS_FILE) -> list[dict[str, Any]]:
    """The whole lines of a run's metrics or timings; a last line half written is left out.

    Raises:
        RunError: A line is not what was written, or lacks figures.
    """
    try:
        lines = list(unseal_lines(_content(run, name) or b""))
        for number, line in enumerate(lines, 1):
            if fault := _FAULTS[name](line):
                raise ValueError(f"line {number}: {fault}")
    except (OSError, ValueError) as error:
        advice = "remove it, or the line, to continue without these figures"
        raise RunError(f"{run}/{name} is damaged ({reason(error)}): {advice}") from error
    return lines


def _timing_fault(line: Line) -> str | None:
    for name in ("step", "rows_per_second", "waiting"):
        if type(line.get(name)) not in (int, float):
            return f"{name} is not a number"
    return None


_FAULTS = {METRICS_FILE: line_fault, TIMINGS_FILE: _timing_fault}


def steps_made(run: Folder) -> int:
    """The last step in a run's metrics or checkpoints: either may be ahead.

    Raises:
        RunError: The metrics are damaged.
    """
    logged = (line["step"] for line in read_lines(run))
    return max([*logged, *saved_steps(run)], default=0)


def flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested figures as `outer/inner` names with numbers; what is not a number is left out."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


class _LogFile(ABC):
    """A file of lines that grows.

    Args:
        kept: The lines that it begins with.
    """

    def __init__(self, kept: bytes) -> None:
        self._size, self._digest = len(kept), hashlib.sha256(kept)

    def append(self, line: Line) -> None:
        """Add a line."""
        sealed = seal_line(line)
        self._size += len(sealed)
        self._digest.update(sealed)
        self._add(sealed)

    def sync(self) -> Logged:
        """Make sure that the lines are there; returns what the file holds."""
        self._sync()
        return Logged(self._size, self._digest.hexdigest())

    @abstractmethod
    def _add(self, line: bytes) -> None: ...

    @abstractmethod
    def _sync(self) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Close the file. It is not synced: an error, such as a lost lock, may be on its way."""


class _AppendedFile(_LogFile):
    """A log on this machine."""

    def __init__(self, run: Folder, name: str, kept: bytes) -> None:
        super().__init__(kept)
        run.write(name, kept)
        # Unbuffered: a line that could not be written is not tried again when the file is closed.
        self._file = run.inside(name).open("ab", buffering=0)

    def _add(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def _sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class _RewrittenFile(_LogFile):
    """A log behind a URL, where no file can be appended to.

    It is written as a whole whenever it must be there, so that it agrees with the newest
    checkpoint. All lines together are far shorter than the checkpoint that follows.
    """

    def __init__(self, run: Folder, name: str, kept: bytes) -> None:
        super().__init__(kept)
        self._run, self._name, self._lines = run, name, bytearray(kept)
        self._written = -1
        self._sync()

    def _add(self, line: bytes) -> None:
        self._lines += line

    def _sync(self) -> None:
        if len(self._lines) > self._written:
            self._run.write(self._name, bytes(self._lines))
            self._written = len(self._lines)

    def close(self) -> None:
        self._lines.clear()


def _open_log(run: Folder, name: str, kept: bytes) -> _LogFile:
    """A log of a run, which begins with the lines that are kept."""
    return (_RewrittenFile if run.local is None else _AppendedFile)(run, name, kept)


def _held(run: Folder, logged: Logged | None) -> bytes:
    """What metrics.jsonl held at a checkpoint; empty where the user has removed it.

    Raises:
        RunError: It has been damaged since.
    """
    content = _content(run, METRICS_FILE)
    if logged is None or content is None:
        return b""
    kept = content[: logged.size]
    if len(kept) < logged.size or hashlib.sha256(kept).hexdigest() != logged.sha256:
        raise RunError(
            f"{run}/{METRICS_FILE} does not hold the lines that were written: remove it to "
            "continue without the figures so far"
        )
    return kept


def _content(run: Folder, name: str) -> bytes | None:
    """The bytes of a log; None where there is no such file."""
    try:
        return run.read(name, largest=_LARGEST)
    except FileNotFoundError:
        return None


def _until(run: Folder, step: int) -> bytes:
    """The whole lines of timings.jsonl up to a step; what cannot be read is left out."""
    kept = b""
    for line in (_content(run, TIMINGS_FILE) or b"").splitlines(keepends=True):
        try:
            if line.endswith(b"\n") and unseal_line(line[:-1])["step"] <= step:
                kept += line
        except (ValueError, KeyError, TypeError):
            continue
    return kept


class _Service(Protocol):
    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _Tensorboard:
    def __init__(self, run: Folder, step: int) -> None:
        self._writer: Any = _summary_writer()(str(run.inside(TENSORBOARD)), purge_step=step + 1)

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: Folder, record: RunRecord) -> None:
        self._aside = None if run.local is not None else tempfile.TemporaryDirectory()
        self._run: Any = _wandb().init(
            project=record.train.wandb,
            name=run.name,
            dir=self._aside.name if self._aside else str(run),
            config=to_mapping(record),
        )

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        named = {f"{group}/{name}": value for name, value in figures.items()}
        self._run.log({**named, "step": step})

    def close(self) -> None:
        self._run.finish()
        if self._aside:
            self._aside.cleanup()


def _summary_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard") from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise _missing("wandb") from error
    return wandb


def _missing(package: str) -> SparcError:
    return SparcError(f"logging to {package} needs its package: pip install {package}")
