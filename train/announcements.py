"""What `sparc-train` says when training begins and when a run has ended."""

import shlex
from collections.abc import Sequence

from sparc.common.errors import setting
from sparc.common.files.folder import Folder
from sparc.common.progress import say
from sparc.common.text import amount, listed, size
from sparc.train.data.counting import FEW_ROWS, RowCounts
from sparc.train.data.moments import fewest_rows
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.processes import Processes
from sparc.train.kernels import choice
from sparc.train.kernels.registry import AUTO
from sparc.train.loop import Trainee
from sparc.train.run.log import read_lines
from sparc.train.run.run_folder import RunRecord, load_initial

LISTED_SETS = 6
"""Sets of streams whose numbers of rows are listed."""


def say_what_begins(
    reader: BatchReader, trainees: Sequence[Trainee], first_step: int, group: Processes
) -> None:
    """Say what is trained, on what, and whether it continues from an earlier step."""
    record = trainees[0].record
    order = reader.order
    joins = bool(trainees[0].learner.frozen)
    if order.rows < order.batch_size:
        say(
            f"the cache has {amount(order.rows, 'usable row')}, fewer than a batch of "
            f"{order.batch_size:,}: every step learns from all of them"
        )
    latents = max(trainee.record.model.latents for trainee in trainees)
    if latents > order.rows:
        sizes = f"{setting('--latents')} and {setting('--k')}"
        say(
            f"note: {amount(latents, 'latent')} are more than the {amount(order.rows, 'row')} to "
            "learn from: most will stand for single rows or none"
            + ("" if joins else f"; without {sizes}, they fit the cache")
        )
    if order.rows < FEW_ROWS:
        say(f"note: {amount(order.rows, 'row')} are few: concepts and figures may be accidents")
    memory = f"streamed through 2 blocks of {size(reader.block_bytes)}"
    where = {"device": "on the device", "host": "in memory", "stream": memory}
    begun = f", continuing after step {first_step:,}" if first_step else ""
    together = ""
    if group.world > 1:
        together = f", {group.world} processes that share {trainees[0].learner.divided_by}"
    say(
        f"{', '.join(record.model.names)}: {amount(order.rows, 'row')} {where[reader.residency]}, "
        f"{amount(record.steps, 'step')} of {amount(order.batch_rows, 'row')} "
        f"({order.steps_per_epoch:,} an epoch), {record.device}, "
        f"{trainees[0].learner.kernels.name} kernels{together}{begun}"
    )
    train = record.train
    if train.start_from and not first_step:
        say(_start(trainees[0]))
    if sentence := _incomplete_rows(reader.counts, record, joins=joins):
        say(sentence)
    if record.has_few_rows and len(record.model.names) > 1:
        few = amount(record.rows_to_align, "usable row")
        if train.rows == "any":
            few += " that every pair of streams has"
        say(
            f"note: {few} are too few to align encoders as recipe {train.recipe} does, which needs "
            f"{fewest_rows(record.model):,}: they are not aligned"
        )
    if slow := trainees[0].learner.by_autograd:
        say(f"{', '.join(slow)}: no derivatives by hand, so steps wait for autograd on dense codes")
    if train.kernels == AUTO:
        for sentence in choice.advice(group.device):
            say(sentence)


def _start(trainee: Trainee) -> str:
    """Which streams begin at the weights of other models."""
    names, weights = trainee.record.model.names, load_initial(trainee.run) or {}
    started = [name for name in names if f"encoder.{name}" in weights]
    others = [name for name in names if name not in started]
    rest = f"; {listed(others)} at random" if others else ""
    return f"start: {listed(started)} from {listed(trainee.record.train.start_from)}{rest}"


def _incomplete_rows(counts: RowCounts, record: RunRecord, *, joins: bool) -> str | None:
    """How many rows lack which streams, and what becomes of them; None if none does.

    Args:
        counts: The rows of the cache.
        record: What is trained.
        joins: Whether a stream joins frozen ones, which learn from no row.
    """
    incomplete = {has: n for has, n in counts.by_streams.items() if has != record.model.names}
    if not incomplete:
        return None
    missing = f"a stream is missing in {amount(sum(incomplete.values()), 'row')}, which"
    if record.train.rows == "all":
        any_rows = setting("--rows any", 'rows="any"')
        advice = "" if joins else f": {any_rows} trains the other streams with them"
        return f"{missing} are left out{advice}"
    sets = [f"{rows:,} have {' and '.join(has)}" for has, rows in incomplete.items()]
    if further := len(sets[LISTED_SETS:]):
        sets[LISTED_SETS:] = [f"and {amount(further, 'further set')} of streams"]
    return f"{missing} train the others: {', '.join(sets)}"


def say_what_ended(folder: Folder) -> None:
    """Say how a run ended, and which command comes next."""
    record = RunRecord.read(folder)
    parts = [f"{folder}: trained for {amount(record.steps, 'step')}"]
    losses = {line["split"]: line["loss"] for line in read_lines(folder)}
    for split, name in (("train", "loss"), ("validation", "validation loss")):
        if losses.get(split) is not None:
            parts.append(f"{name} {losses[split]:.4f}")
    # Rows that it has not learnt from tell more, where a validation cache names such rows.
    measure = ["sparc-analyze", "run", str(folder), record.train.validation or "CACHE", "REPORT"]
    say(f"{', '.join(parts)}; measure it: {shlex.join(measure)}")
