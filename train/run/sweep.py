"""Several models on one pass over the data: a grid of settings, a run folder for each point.

A sweep's file lists values by setting, and every combination becomes a run:

    k = [32, 64]
    cross_weight = [0.0, 1.0]
    term.distill = [0.0, 0.1]        the weight of a loss term

    RUN/
      sweep.json                   the cache and the settings of every run
      runs.parquet                 a row a run: its settings, how far it is, its last figures
      k=32,cross_weight=0.0/       an ordinary run folder, bit for bit that of a separate run
      …

This module must not know how a run is made.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from sparc.common.cache.tables import write_table
from sparc.common.config import (
    declared,
    first_difference,
    from_mapping,
    to_mapping,
    with_current_names,
)
from sparc.common.defaults import given_settings, recorded_settings
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import ConfigError, RunError
from sparc.common.files.folder import Folder
from sparc.common.files.parquet import read_parquet
from sparc.common.parsing import parse_object, read_toml
from sparc.common.text import printable, reason
from sparc.train.config import TrainConfig
from sparc.train.run.log import read_lines, steps_made
from sparc.train.run.metrics import self_and_cross
from sparc.train.run.run_folder import SWEEP_FILE, is_finished
from sparc.train.step.terms.registry import weighted_terms

INDEX_FILE = "runs.parquet"

SWEPT = declared(TrainConfig, "swept")
"""Settings that a sweep may vary."""

_TERM = "term."
"""Begins the name of a loss term's weight, as a sweep's file and `runs.parquet` call it."""

KIND = DocumentKind("sparc-sweep", 1, RunError)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Runs that are trained on one pass over the data.

    Attributes:
        cache: Folder or URL of the cache they learn from.
        varied: The settings that differ between runs.
        settings: Of every run, by the name of its folder.
    """

    cache: str
    varied: tuple[str, ...]
    settings: Mapping[str, TrainConfig]

    @classmethod
    def plan(cls, path: Path, cache: str, base: TrainConfig) -> Self:
        """The sweep that a file describes.

        Args:
            path: The TOML file.
            cache: Folder or URL of the cache.
            base: The settings that it does not vary.

        Raises:
            ConfigError: The file cannot be read, or varies what cannot be varied.
        """
        grid = _read_grid(path)
        settings = {}
        for values in itertools.product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            name = ",".join(f"{key}={value}" for key, value in chosen.items())
            plain = {key: value for key, value in chosen.items() if not key.startswith(_TERM)}
            merged = {**given_settings(base), **plain}
            settings[name] = from_mapping(TrainConfig, merged, source=f"{path}: {name}")
            varied_terms = {
                key.removeprefix(_TERM): value
                for key, value in chosen.items()
                if key.startswith(_TERM)
            }
            if varied_terms:
                weights = {**settings[name].term_weights, **varied_terms}
                merged["terms"] = [f"{term}={weight}" for term, weight in weights.items()]
                settings[name] = from_mapping(TrainConfig, merged, source=f"{path}: {name}")
        varied = sorted(grid, key=lambda key: key.startswith(_TERM))  # terms last, as in `read`
        return cls(cache, tuple(varied), settings)

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """The sweep that was begun in a folder.

        Raises:
            RunError: Its record is damaged or of another version.
        """
        where = f"{folder}/{SWEEP_FILE}"
        try:
            document = parse_object(folder.read(SWEEP_FILE))
            entries = KIND.sealed_entries(document, where=where)
        except (OSError, ValueError) as error:
            raise RunError(f"{where} is not readable: {error!r}") from error
        try:
            if isinstance(recorded := entries.get("settings"), Mapping):
                complete = {
                    name: recorded_settings(TrainConfig, of_run, source=f"{SWEEP_FILE}: {name}")
                    if isinstance(of_run, Mapping)
                    else of_run
                    for name, of_run in recorded.items()
                }
                entries = {**entries, "settings": complete}
            sweep = from_mapping(cls, entries, source=SWEEP_FILE)
        except ConfigError as error:  # the seal holds
            raise KIND.newer(error, where=where) from error
        try:
            varied = dict.fromkeys(key for key in sweep.varied if not key.startswith(_TERM))
            terms = [key for key in sweep.varied if key.startswith(_TERM)]
            names = with_current_names(TrainConfig, varied, source=f"{SWEEP_FILE}: varied")
            sweep = dataclasses.replace(sweep, varied=(*names, *terms))
            sweep.check_names()
        except ConfigError as error:
            raise RunError(f"{where} is not readable: {error}") from error
        return sweep

    def check_names(self) -> None:
        """Refuse runs that would lie elsewhere, or settings that no sweep varies.

        Raises:
            ConfigError: Says which.
        """
        for name in self.settings:
            if not name or "/" in name or name.startswith("."):
                raise ConfigError(f"{printable(name)!r} cannot be the name of a run")
        for key in self.varied:
            if not _may_vary(key):
                raise ConfigError(f"a sweep cannot vary {printable(key)!r}")
        if not self.settings:
            raise ConfigError("it has no runs")

    def begin(self, folder: Folder) -> None:
        """Write the record, unless the folder holds this very sweep.

        Raises:
            RunError: It holds another one, or something else.
        """
        if folder.exists(SWEEP_FILE):
            recorded = Sweep.read(folder).settings
            for name in sorted(recorded.keys() | self.settings.keys()):
                if recorded.get(name) != self.settings.get(name):
                    difference = _difference(recorded, self.settings, name)
                    raise RunError(
                        f"{folder} holds another sweep ({difference}):"
                        f" continue with `sparc-train resume {folder}`, or choose another folder"
                    )
            return
        folder.write(SWEEP_FILE, seal(KIND.document(to_mapping(self))))

    def write_index(self, folder: Folder, failures: Mapping[str, str]) -> None:
        """Write `runs.parquet`.

        Args:
            folder: The sweep's folder.
            failures: Why a run is not trained to its end, by the name of its folder.
        """
        rows = [self._index_row(folder, name, failures.get(name)) for name in self.settings]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        write_table(folder, INDEX_FILE, pa.table(columns, schema=self.index_schema()))

    def index_schema(self) -> pa.Schema:
        """The columns of `runs.parquet`.

        `run` (the folder's name), the settings that vary, `step`, `finished`, `failure` (null
        while all is well), and from the last line of the run's metrics, as means over streams:
        `loss`, `nmse`, `cross_nmse`, `explained_variance`, `l0` and `dead` (latents a stream).
        """
        types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
        example = next(iter(self.settings.values()))
        varied = [(name, types[type(_value(example, name))]) for name in self.varied]
        figures = ("loss", "nmse", "cross_nmse", "explained_variance", "l0", "dead")
        return pa.schema(
            [
                ("run", pa.string()),
                *varied,
                ("step", pa.int64()),
                ("finished", pa.bool_()),
                ("failure", pa.string()),
                *((name, pa.float64()) for name in figures),
            ]
        )

    def _index_row(self, folder: Folder, name: str, failure: str | None) -> dict[str, Any]:
        settings, run = self.settings[name], folder.below(name)
        lines = [x for x in read_lines(run) if x["split"] == "train"]
        row = {
            "run": name,
            **{key: _value(settings, key) for key in self.varied},
            "step": steps_made(run),
            "finished": is_finished(run),
            "failure": failure,
        }
        if not lines:
            return {**dict.fromkeys(self.index_schema().names), **row}
        last = lines[-1]
        own, cross = self_and_cross(last["nmse"])
        figures = {"loss": last["loss"], "nmse": _known(own), "cross_nmse": _known(cross)}
        for key in ("explained_variance", "l0", "dead"):
            values = [value for value in last[key].values() if value is not None]
            figures[key] = sum(values) / len(values) if values else None
        return {**row, **figures}


def read_index(folder: Folder) -> pa.Table:
    """The table `runs.parquet` of a sweep.

    Raises:
        RunError: It is not there or damaged, or the sweep's record is.
    """
    where = f"{folder}/{INDEX_FILE}"
    schema = Sweep.read(folder).index_schema()
    try:
        with folder.open(INDEX_FILE) as file:
            table = read_parquet(file)
        if table.schema != schema:
            raise ValueError("it has other columns than it should")
        if any(table[name].null_count for name in ("run", "step", "finished")):
            raise ValueError("it does not say how far every run is")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{where} is damaged ({reason(error)}): remove it, and it is made again"
        ) from error
    return table


def read_failures(folder: Folder) -> dict[str, str]:
    """Why runs of a sweep are not trained to their end, by the name of their folder."""
    if not folder.exists(INDEX_FILE):
        return {}
    table = read_index(folder).select(["run", "failure"])
    return {row["run"]: row["failure"] for row in table.to_pylist() if row["failure"] is not None}


def _read_grid(path: Path) -> dict[str, list[Any]]:
    document = read_toml(path, "sweep")
    grid: dict[str, Any] = {}
    for key, values in document.items():
        if key == "term" and isinstance(values, Mapping):
            grid |= {f"{_TERM}{name}": weights for name, weights in values.items()}
        else:
            grid[key.replace("-", "_")] = values
    for key, values in grid.items():
        if not _may_vary(key):
            known = ", ".join((*SWEPT, *(f"{_TERM}{name}" for name in weighted_terms())))
            raise ConfigError(f"{path}: a sweep cannot vary {key!r}, only {known}")
        if not isinstance(values, list) or not values:
            raise ConfigError(f"{path}: {key} must be a list of values, such as {key} = [1, 2]")
        if len({repr(value) for value in values}) < len(values):
            raise ConfigError(f"{path}: {key} lists a value twice")
    if not grid:
        raise ConfigError(f"{path} varies nothing: give lists of values, such as k = [32, 64]")
    return grid


def _may_vary(key: str) -> bool:
    return key in SWEPT or (key.startswith(_TERM) and key.removeprefix(_TERM) in weighted_terms())


def _value(settings: TrainConfig, key: str) -> int | float | str:
    """The value of a setting, or the weight of a loss term, that a sweep varies."""
    if key.startswith(_TERM):
        return settings.term_weights.get(key.removeprefix(_TERM), 0.0)
    value: int | float | str = getattr(settings, key)
    return value


def _difference(
    recorded: Mapping[str, TrainConfig], wanted: Mapping[str, TrainConfig], name: str
) -> str:
    if name not in wanted:
        return f"{name} is not in the file"
    if name not in recorded:
        return f"{name} is not in it"
    difference = first_difference(recorded[name], wanted[name])
    assert difference is not None
    key, before, now = difference
    return f"{name}: {key} = {before}, not {now}"


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
