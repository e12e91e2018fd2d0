"""Where the figures of a run go: files in the run folder and, if asked for, two services.

Must not know how figures are made.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from sparc.common.config import to_mapping
from sparc.common.errors import RunError, SparcError
from sparc.common.storage import Folder
from sparc.train.run_folder import METRICS_FILE, TIMINGS_FILE, RunRecord

Line = Mapping[str, Any]


class RunLog:
    """Appends lines to the files of a run.

    Args:
        run: The run's folder.
        record: The run's record.
        step: Steps made so far: later lines, of a process that was interrupted, are cut off.

    Raises:
        SparcError: A service is asked for whose package is not installed.
    """

    def __init__(self, run: Path, record: RunRecord, *, step: int) -> None:
        self._services: list[_Service] = []
        if record.train.tensorboard:
            self._services.append(_Tensorboard(run, step))
        if record.train.wandb:
            self._services.append(_WeightsAndBiases(run, record))
        for name in (METRICS_FILE, TIMINGS_FILE):
            _cut_after(run, name, step)
        self._metrics = (run / METRICS_FILE).open("a", encoding="utf-8")
        self._timings = (run / TIMINGS_FILE).open("a", encoding="utf-8")

    def metrics(self, line: Line) -> None:
        """Write a line of metrics.jsonl."""
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()
        figures = {k: v for k, v in flatten(line) if not k.endswith(("step", "split"))}
        for service in self._services:
            service.write(line["step"], line["split"], figures)

    def timings(self, line: Line) -> None:
        """Write a line of timings.jsonl."""
        self._timings.write(json.dumps(line) + "\n")
        self._timings.flush()
        for service in self._services:
            service.write(line["step"], "time", dict(flatten(line)))

    def sync(self) -> None:
        """Make sure that the lines are on the disk, as a checkpoint takes for granted."""
        os.fsync(self._metrics.fileno())
        os.fsync(self._timings.fileno())

    def close(self) -> None:
        """Close files and services."""
        self._metrics.close()
        self._timings.close()
        for service in self._services:
            service.close()


def read_lines(run: Path, name: str = METRICS_FILE) -> list[dict[str, Any]]:
    """The whole lines of a run's metrics or timings; a last line half written is left out.

    Raises:
        RunError: A line is not JSON.
    """
    path = run / name
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}") from error


def flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Nested figures as `outer/inner` names with numbers; what is not a number is left out."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value


def _cut_after(run: Path, name: str, step: int) -> None:
    if (run / name).exists():
        kept = [line for line in read_lines(run, name) if line["step"] <= step]
        content = "".join(json.dumps(line) + "\n" for line in kept)
        Folder(run).write(name, content.encode())


class _Service(Protocol):
    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _Tensorboard:
    def __init__(self, run: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard") from error
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: Path, record: RunRecord) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb") from error
        self._run: Any = wandb.init(
            project=record.train.wandb, name=run.name, dir=str(run), config=to_mapping(record)
        )

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        named = {f"{group}/{name}": value for name, value in figures.items()}
        self._run.log({**named, "step": step})

    def close(self) -> None:
        self._run.finish()


def _missing(package: str) -> SparcError:
    return SparcError(f"logging to {package} needs its package: pip install 'sparc[{package}]'")
