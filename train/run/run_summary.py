"""What `sparc-train inspect` says about a run or a sweep, as text."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sparc.common.config import plain
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.common.text import amount, printable
from sparc.train.config import TrainConfig
from sparc.train.derive.history import History
from sparc.train.derive.record import ChangeRecord
from sparc.train.model.files import is_saved_model, read_config, read_history
from sparc.train.run.log import flatten, read_lines, steps_made
from sparc.train.run.run_folder import (
    SWEEP_FILE,
    TIMINGS_FILE,
    RunRecord,
    is_finished,
    saved_steps,
)
from sparc.train.run.sweep import INDEX_FILE, read_index


def describe_folder(location: str | os.PathLike[str]) -> str:
    """What a run, a sweep or a saved model is, how far a run is, and its last figures.

    Args:
        location: Its folder or URL.

    Raises:
        RunError: It is none of them, or damaged.
    """
    folder = Folder(location)
    if folder.exists(SWEEP_FILE):
        return "\n".join(_sweep_lines(folder))
    folder = Folder(located(location, "run"))
    if is_saved_model(folder):
        return "\n".join(_model_lines(folder))
    return "\n".join(_run_lines(folder))


def _model_lines(folder: Folder) -> Iterator[str]:
    model = read_config(folder)
    latents = amount(model.latents, "latent")
    yield f"a saved model: {latents}, k {model.k}, {model.selection} selection"
    for stream in model.streams:
        yield f"  {stream.name}: dim {stream.dim}"
    yield from _history_lines(read_history(folder))


def _history_lines(history: History) -> Iterator[str]:
    for aligned in history.aligned:
        settings = aligned.settings
        keep = "" if settings.keep else ", spread not kept"
        how = f"mix {settings.mix:g}, ridge {settings.ridge:g}{keep}"
        yield f"aligned: {_made_from(aligned)}, {how}"
    for matched in history.matched:
        correlations = f"{matched.before:.3f} to {matched.after:.3f}"
        yield f"matched: {_made_from(matched)}, mean correlation {correlations}"
    for saved in history.saved:
        new_names = saved.settings.new_names.items()
        renamed = "".join(f", {printable(old)} as {printable(new)}" for old, new in new_names)
        yield f"saved: from {printable(saved.source)}{renamed}"
    for imported in history.imported:
        yield f"imported: {printable(imported.source)}, {imported.format}"
    for joined in history.joined:
        steps = amount(joined.steps, "step")
        yield f"joined by {joined.settings.stream}: {_made_from(joined)}, {steps}"


def _made_from(record: ChangeRecord) -> str:
    rows = amount(record.rows, "row")
    return f"{printable(record.source)}, on {rows} of {printable(record.cache)}"


def _changed_settings(train: TrainConfig) -> list[str]:
    """Every setting that is not its default with this recipe."""
    decided = train.as_recipe_decides()
    lines = []
    for field in dataclasses.fields(train):
        by_recipe = field.metadata["default_by"]
        default = getattr(decided, field.name) if by_recipe else field.default
        if (value := getattr(train, field.name)) != default:
            lines.append(f"{field.name} {printable(str(plain(value)))}")
    return lines


def _run_lines(folder: Folder) -> Iterator[str]:
    record = RunRecord.read(folder)
    model, train, data = record.model, record.train, record.data
    lines = read_lines(folder)
    yield (
        f"{amount(model.latents, 'latent')}, k {model.k}, {model.selection} selection, "
        f"{train.recipe} recipe, cross weight {train.cross_weight:g}, seed {train.seed}"
    )
    if changed := _changed_settings(train):
        yield f"settings other than the defaults: {', '.join(changed)}"
    yield (
        f"from {printable(data.cache)} ({printable(data.dataset)}"
        f"{' ' + printable(data.split) if data.split else ''}): "
        f"{data.usable_rows:,} of {amount(data.rows, 'row')}"
    )
    for stream in data.streams:
        spec = printable(stream.origin.spec)
        yield f"  {stream.name}: {stream.modality}, dim {stream.dim}, {spec}"
    if is_finished(folder):
        yield f"finished: {amount(record.steps, 'step')}"
        yield from _history_lines(record.history)
    else:
        saved = saved_steps(folder)
        kept = f"last checkpoint at {saved[-1]:,}" if saved else "no checkpoint yet"
        yield (
            f"step {steps_made(folder):,} of {record.steps:,} ({kept}); continue with "
            f"`sparc-train resume {folder}`"
        )
    timings = read_lines(folder, TIMINGS_FILE)
    if timings:
        last = timings[-1]
        yield (
            f"{last['rows_per_second']:,.0f} rows/s on {record.device}, {record.kernels} kernels, "
            f"{last['waiting']:.1%} of the time waiting for rows"
        )
    for split in ("train", "validation"):
        of_split = [line for line in lines if line["split"] == split]
        if of_split:
            yield ""
            yield from _figures(split, of_split[-1], model.latents, train.term_weights)


def _figures(split: str, line: dict[str, Any], latents: int, terms: Iterable[str]) -> Iterator[str]:
    names = list(line["nmse"])
    losses = [f"loss {_number(line['loss'])}"]
    for term in terms:  # by stream if its derivatives are by hand
        values = dict(flatten({term: line.get(term)}))
        losses += [f"{printable(name)} {_number(value)}" for name, value in values.items()]
    measured_on = amount(line["rows"], "row")
    yield f"{split}, step {line['step']:,}, {measured_on}: {', '.join(losses)}"
    header = ["stream", "EV", "L0", "dead", "own", *(f"NMSE from {n}" for n in names)]
    table = [
        [
            name,
            _number(line["explained_variance"][name]),
            _number(line["l0"][name], ".1f"),
            _number(line["dead"][name], ".1%", of=latents),
            _number(line["chosen_alone"][name]),
            *(_number(line["nmse"][name][source]) for source in names),
        ]
        for name in names
    ]
    yield from _table(header, table)
    if len(names) > 1 and (pairs := line.get("explained_variance_pairs")):
        header = ["target", *(f"EV from {name}" for name in names)]
        rows = [[target, *(_number(pairs[target][s]) for s in names)] for target in names]
        yield from _table(header, rows)


def _sweep_lines(folder: Folder) -> Iterator[str]:
    if not folder.exists(INDEX_FILE):
        yield f"a sweep that has not begun; continue with `sparc-train resume {folder}`"
        return
    runs = read_index(folder).to_pylist()
    finished = sum(run["finished"] for run in runs)
    yield f"{amount(len(runs), 'run')}, {finished} finished"
    header = ["run", "step", "loss", "NMSE", "cross NMSE", "EV", "L0", "dead", ""]
    figures = ("loss", "nmse", "cross_nmse", "explained_variance", "l0", "dead")
    rows = [
        [
            run["run"],
            f"{run['step']:,}",
            *(_number(run[name]) for name in figures),
            "diverged" if run["failure"] else "",
        ]
        for run in runs
    ]
    yield from _table(header, rows)
    if not all(run["finished"] or run["failure"] for run in runs):
        yield f"continue with `sparc-train resume {folder}`"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *rest)).rstrip()


def _number(value: float | None, form: str = ".4f", *, of: int = 1) -> str:
    return "-" if value is None else format(value / of, form)
