"""The run folder: what a run was made from, its weights, and what it logged.

    RUN/
      config.json            model, settings, data and software: all that repeating the run needs
      initial.safetensors    by stream, the pre-bias of step 0, where it started at the data's mean;
                             with `--start-from` the weights that are another model's
      checkpoints/           see `sparc.train.run.checkpoint`
      metrics.jsonl          see `sparc.train.run.metrics`
      timings.jsonl          rows a second and the share of time spent waiting for rows
      model.safetensors      the weights of a finished run, which `sparc.train.load` reads

This module must not know how training works: a report reads runs through it.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import declared, first_difference, from_mapping, to_mapping
from sparc.common.defaults import recorded_settings
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import CacheError, ConfigError, RunError, setting
from sparc.common.files.artefacts import foreign_entry, instead
from sparc.common.files.folder import Folder
from sparc.common.files.whole import whole_folders
from sparc.common.parsing import parse_object
from sparc.common.streams.info import StreamInfo
from sparc.train.align.record import AlignRecord
from sparc.train.config import ModelConfig, TrainConfig
from sparc.train.data.moments import fewest_rows
from sparc.train.derive.history import CHANGES, History
from sparc.train.join.record import JoinRecord
from sparc.train.match.record import MatchRecord
from sparc.train.model.files import CONFIG_FILE, WEIGHTS_FILE
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import read_tensors, write_tensors

KIND = DocumentKind("sparc-run", 1, RunError)

INITIAL_FILE = "initial.safetensors"
METRICS_FILE = "metrics.jsonl"
TIMINGS_FILE = "timings.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
SERVICE_FOLDERS = (TENSORBOARD, "wandb")
"""What logging services write; Weights & Biases chooses the name itself."""
SWEEP_FILE = "sweep.json"
"""Lies in the folder of a sweep, whose runs are folders in it; see `sparc.train.run.sweep`."""

STATE_FILE = "state.json"
"""Is written last to a checkpoint; see `sparc.train.run.checkpoint`."""

_CHECKPOINT = re.compile(r"step-([0-9]{9,18})")

CHANGEABLE = declared(TrainConfig, "changeable")
"""Settings that have no influence on the weights: a run may be resumed with others."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataRecord:
    """What a run learns from.

    Attributes:
        cache: The cache's folder or URL.
        dataset: What the cache was made from.
        split: Its split.
        rows: Rows of the cache.
        usable_rows: Rows that are trained on: valid in all streams of the run, or with `--rows
            any` in one.
        manifest_digest: Identifies the rows; see `sparc.common.cache.tables.manifest_digest`.
        streams: The streams of the run and what made them.
        variances: Of the streams, in order, E|x - E x|^2 of normalized features, which errors are
            divided by; empty with `--error norm`.
        pair_rows: With `--rows any`, rows that every pair of streams has, at least; else 0.
    """

    cache: str
    dataset: str
    split: str
    rows: int
    usable_rows: int
    manifest_digest: str
    streams: tuple[StreamInfo, ...]
    variances: tuple[float, ...] = dataclasses.field(default=(), metadata={"added": True})
    pair_rows: int = dataclasses.field(default=0, metadata={"added": True})

    @classmethod
    def of(
        cls,
        cache: ActivationCache,
        streams: tuple[str, ...],
        usable_rows: int,
        *,
        pair_rows: int = 0,
    ) -> "DataRecord":
        """The record of some streams of a cache."""
        return cls(
            cache=absolute_location(cache.folder.location),
            dataset=cache.info.dataset,
            split=cache.info.split,
            rows=cache.info.rows,
            usable_rows=usable_rows,
            manifest_digest=cache.info.manifest_digest,
            streams=tuple(cache.streams[name] for name in streams),
            pair_rows=pair_rows,
        )

    def check(self, cache: ActivationCache) -> None:
        """Refuse a cache with other rows or features than those recorded; it may have moved.

        Raises:
            CacheError: Says what differs.
        """
        if cache.info.manifest_digest != self.manifest_digest:
            raise CacheError(
                f"{cache.folder} holds other rows than the run has learnt from "
                f"({self.cache}): give the same cache, another run folder, or "
                f"{setting('--overwrite', 'overwrite=True')}"
            )
        for stream in self.streams:
            if cache.streams.get(stream.name) != stream:
                raise CacheError(
                    f"{cache.folder}: stream {stream.name} is not the one that the run has learnt "
                    f"from ({self.cache}): give the same cache, another run folder, or "
                    f"{setting('--overwrite', 'overwrite=True')}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `config.json`.

    Attributes:
        model: The model.
        train: The settings: as given, as the recipe decided, or as fits the cache (latents, k).
        data: What the run learns from.
        steps: Steps of the whole run.
        steps_per_epoch: Steps of an epoch.
        device: Where it began, for example `cpu` or `cuda (NVIDIA H100 80GB HBM3)`.
        kernels: The implementation of the sparse mathematics.
        processes: How many processes shared the work.
        parallel: How they divided it: by `rows` or by `latents`.
        versions: Version by package, and of Python.
        aligned: How the weights were aligned after training, once or again; the metrics are those
            of the run before.
        matched: How latents were matched after training; likewise.
        joined: Which streams joined after training, and how; likewise.
    """

    model: ModelConfig
    train: TrainConfig
    data: DataRecord
    steps: int
    steps_per_epoch: int
    device: str
    kernels: str
    processes: int
    versions: Mapping[str, str]
    aligned: tuple[AlignRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    matched: tuple[MatchRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    joined: tuple[JoinRecord, ...] = dataclasses.field(default=(), metadata={"added": True})
    parallel: str = dataclasses.field(default="rows", metadata={"added": True})

    @property
    def history(self) -> History:
        """What was done to the model after its training."""
        return History(**{name: getattr(self, name) for name in CHANGES})

    def with_history(self, history: History) -> "RunRecord":
        """This record with another history."""
        changes: dict[str, Any] = {name: getattr(history, name) for name in CHANGES}
        return dataclasses.replace(self, **changes)

    def with_model(self, model: ModelConfig, streams: Sequence[StreamInfo]) -> "RunRecord":
        """This record for a model that may have further streams.

        Args:
            model: The model.
            streams: What made streams that are not in `data`; others may be among them.
        """
        known = {stream.name for stream in self.data.streams}
        further = tuple(stream for stream in streams if stream.name not in known)
        data = dataclasses.replace(self.data, streams=(*self.data.streams, *further))
        return dataclasses.replace(self, model=model, data=data)

    def check(self, cache: ActivationCache) -> None:
        """Refuse a cache that training has not read; streams joined later may be of another.

        Raises:
            CacheError: Says what differs.
        """
        joined = {record.streams[-1].name for record in self.joined}
        streams = tuple(stream for stream in self.data.streams if stream.name not in joined)
        dataclasses.replace(self.data, streams=streams).check(cache)

    @classmethod
    def read(cls, run: Folder) -> "RunRecord":
        """Read the record of a run folder.

        Raises:
            RunError: There is none, it is damaged, or it is of another version.
        """
        where = f"{run}/{CONFIG_FILE}"
        try:
            document = parse_object(run.read(CONFIG_FILE))
            if "format" not in document and "model" in document:
                raise RunError(f"{run} holds a saved model but no run: it has no training record")
            entries = KIND.sealed_entries(document, where=where)
            if isinstance(entries.get("train"), Mapping):
                settings = recorded_settings(TrainConfig, entries["train"], source=CONFIG_FILE)
                entries = {**entries, "train": settings}
            return from_mapping(cls, entries, source=CONFIG_FILE)
        except FileNotFoundError as error:
            why = instead("run", run)
            raise RunError(f"{run} is not a run folder: {why}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{where} is not readable: {error!r}") from error
        except ConfigError as error:  # the seal holds
            raise KIND.newer(error, where=where) from error

    @property
    def mixes_by_step(self) -> Mapping[int, float]:
        """After which steps encoders are aligned, and how far they move.

        Never with one stream, nor because a recipe says so where the cache has too few rows.
        """
        if len(self.model.names) == 1 or self.has_few_rows:
            return {}
        return self.train.mixes_by_step(self.steps)

    @property
    def has_few_rows(self) -> bool:
        """Whether the recipe aligns, but the cache has too few rows for that."""
        train = self.train
        if not train.align or train.align != train.as_recipe_decides().align:
            return False
        return self.rows_to_align < fewest_rows(self.model)

    @property
    def rows_to_align(self) -> int:
        """Rows of the cache from which covariances of every pair of streams can be taken."""
        return self.data.pair_rows if self.train.rows == "any" else self.data.usable_rows

    @property
    def rows_to_death(self) -> int:
        """Rows without a value after which a latent is dead."""
        batch_rows = min(self.train.batch_size, self.data.usable_rows)
        return self.train.rows_to_death(self.steps * batch_rows)

    def write(self, run: Folder) -> None:
        """Write the record into a run folder."""
        run.write(CONFIG_FILE, seal(KIND.document(to_mapping(self))))


def require_same(run: Folder, recorded: TrainConfig, wanted: TrainConfig) -> None:
    """Refuse to continue a run under other settings.

    Args:
        run: The run's folder.
        recorded: Its settings.
        wanted: The settings asked for.

    Raises:
        RunError: Names the first setting that differs.
    """
    if difference := first_difference(recorded, wanted, ignore=CHANGEABLE):
        name, before, now = difference
        if is_finished(run):  # which resuming would only say
            overwrite = setting("--overwrite", "overwrite=True")
            raise RunError(
                f"{run} has finished with {name} = {before}, not {now}, and a finished run is not "
                f"trained further: choose another folder, or remove this run with {overwrite}"
            )
        raise RunError(
            f"{run} was begun with {name} = {before}, not {now}: continue with "
            f"`sparc-train resume {run}`, choose another folder, or remove this run with "
            f"{setting('--overwrite', 'overwrite=True')}"
        )


def refuse_other_content(folder: Folder, kind: str, begun: Collection[str]) -> None:
    """Refuse a folder without a record that holds more than an interrupted start leaves.

    Args:
        folder: The folder.
        kind: What it should hold, for the error message.
        begun: The files that may be there.

    Raises:
        RunError: It holds another file.
    """
    if name := foreign_entry(folder, begun):
        raise RunError(f"{folder} is not empty and not a {kind} (it holds {name})")


def is_run(folder: Folder) -> bool:
    """Whether a folder is that of a run, rather than of a saved model."""
    try:
        return bool(parse_object(folder.read(CONFIG_FILE))["format"] == KIND.format)
    except (OSError, ValueError, KeyError):
        return False


def is_finished(run: Folder) -> bool:
    """Whether the run has made its last step."""
    return run.exists(WEIGHTS_FILE)


def checkpoint_name(step: int) -> str:
    """The folder of a checkpoint, within the run's."""
    return f"{CHECKPOINTS}/step-{step:09d}"


def saved_steps(run: Folder) -> list[int]:
    """The steps that have a checkpoint, damaged or not, in order."""
    matches = map(_CHECKPOINT.fullmatch, whole_folders(run, CHECKPOINTS, STATE_FILE))
    return sorted(int(match[1]) for match in matches if match)


def save_finished(run: Folder, model: Sparc) -> None:
    """Write the weights of the last step: from then on the run is finished."""
    model.write_weights(run, WEIGHTS_FILE)


def save_initial(run: Folder, initial: Mapping[str, Tensor] | None) -> None:
    """Write what of step 0 does not follow from configuration and seed; see `load_initial`."""
    write_tensors(run, INITIAL_FILE, initial or {})


def require_finished(run: Folder) -> None:
    """Refuse a run that has not made its last step.

    Raises:
        RunError: Says how far it is and how to continue; or there is no such run, or it is damaged.
    """
    record = RunRecord.read(run)
    if is_finished(run):
        return
    steps = saved_steps(run)
    reached = steps[-1] if steps else 0
    advice = (
        f"; its last checkpoint is itself a model: {run}/{checkpoint_name(reached)}"
        if steps
        else ""
    )
    raise RunError(
        f"{run} has not finished (at least {reached:,} of {record.steps:,} steps): finish "
        f"it with `sparc-train resume {run}`{advice}"
    )


def load_initial(run: Folder) -> dict[str, Tensor] | None:
    """What of step 0 does not follow from configuration and seed; None if all of it does.

    Returns:
        The pre-biases that come from the data, by stream, (dim,); and of streams that started from
        another model their weights, by their names in `Sparc.state_dict`.

    Raises:
        RunError: They are missing or damaged.
    """
    record = RunRecord.read(run)
    values = sum(stream.dim for stream in record.model.streams)
    if record.train.start_from:
        values += record.model.parameters
    return read_tensors(run, INITIAL_FILE, largest=4 * values) or None


def absolute_location(location: str) -> str:
    """A folder's absolute path, or its URL: what holds in every working directory."""
    local = Folder(location).local
    return location if local is None else str(local.absolute())
