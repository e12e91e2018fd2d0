"""The training loop: batches to learners, figures to logs, states to checkpoints.

It trains one model or several on the same batches. It must not know how a run begins or is
resumed: that is `sparc.train.job`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import setting
from sparc.common.files.folder import Folder
from sparc.common.progress import progress
from sparc.common.timing.phases import Phase
from sparc.common.timing.timekeeper import Timekeeper, say_if_long
from sparc.train.align.aligner import Aligner
from sparc.train.data.ahead import Batch
from sparc.train.data.order import Position
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.processes import Processes
from sparc.train.distributed.stopping import stopping_on_signals
from sparc.train.run.checkpoint import Checkpoint, save_checkpoint
from sparc.train.run.log import Line, RunLog
from sparc.train.run.metrics import describe, sums_to_tensors, total
from sparc.train.run.run_folder import RunRecord, save_finished, saved_steps
from sparc.train.step.learner import Learner
from sparc.train.step.schedule import learning_rate
from sparc.train.step.sums import StepSums
from sparc.train.timings import COMMAND, LoopTimes, advice
from sparc.train.validation import measure

NEVER = 2**62

LARGEST_LOSS = 1e6
"""A loss beyond this means divergence: zeros have a loss near 1. Adam's steps are bounded, so the
loss may stay finite, but it does not recover."""


@dataclasses.dataclass
class Trainee:
    """A model in training.

    Attributes:
        run: Its run folder.
        record: What the run is.
        learner: Changes the weights.
        log: Where figures go; None in all processes but the first.
        window: Sums since the last line of metrics, over the rows of this process.
        failure: Why training was given up; None while it continues.
    """

    run: Folder
    record: RunRecord
    learner: Learner
    log: RunLog | None
    window: StepSums | None = None
    failure: str | None = None

    def __post_init__(self) -> None:
        device = next(self.learner.model.parameters()).device
        self._first_bad = torch.full((), NEVER, dtype=torch.int64, device=device)
        # Over variances, zeros have a loss of up to |x|^2, which is 1, over the smallest.
        self._largest_loss = LARGEST_LOSS / min((1.0, *self.record.data.variances))
        self.mixes = self.record.mixes_by_step
        settles_at = self.record.train.settling_from(self.record.steps)
        self._settles_at = settles_at if self.mixes else math.inf

    def learn(self, batch: Batch, step: int) -> None:
        """Make a step, counted from 0, without waiting for the device."""
        lr = self.learning_rate(step)
        encoder_lr = lr * self.record.train.align_lr if step >= self._settles_at else None
        sums = self.learner.step(batch.features, lr, encoder_lr, present=batch.present)
        bad = torch.where(sums.loss <= self._largest_loss * sums.rows, NEVER, step)
        self._first_bad = torch.minimum(self._first_bad, bad)
        self.window = sums if self.window is None else self.window + sums

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        train = self.record.train
        return learning_rate(
            step,
            steps=self.record.steps,
            peak=train.lr,
            warmup_steps=train.warmup_steps,
            schedule=train.schedule,
        )

    def check(self, processes: Processes, *, weights: bool) -> None:
        """Set `failure` if a loss was not finite or beyond all bounds; waits for the device.

        Args:
            processes: All of them come to the same answer.
            weights: Whether to look at the weights too, as before they are saved.
        """
        first_bad = int(processes.gather(self._first_bad.unsqueeze(0)).min())
        if first_bad == NEVER and (not weights or self._weights_are_finite(processes)):
            return
        largest = f"{self._largest_loss:,.0f}"
        problem = (
            f"the loss exceeded {largest} or was not finite at step {first_bad + 1:,}"
            if first_bad != NEVER
            else "the weights were not finite after the last step"
        )
        if self.log is not None:
            self.log.sync()
        good = saved_steps(self.run)
        kept = f"the state of step {good[-1]:,} is kept" if good else "no state had been saved"
        gentler = (
            ""
            if self.learner.frozen
            else f", a longer {setting('--warmup-steps')} or {setting('--clip 1', 'clip=1')}"
        )
        self.failure = (
            f"{self.run}: training diverged, {problem} ({kept}); begin another run with "
            f"{setting('--lr')} below {self.record.train.lr:g}{gentler}"
        )

    def _weights_are_finite(self, processes: Processes) -> bool:
        """Whether all are, those of all processes; waits for the device."""
        finite = [p.isfinite().all() for p in self.learner.model.parameters()]
        return bool(processes.gather(torch.stack(finite)).all())

    def log_window(self, step: int, processes: Processes, *, mixing: float | None) -> Line:
        """Write the figures since the last line, and reset them."""
        sums, self.window = total(_of_processes(self.window, processes)), None
        assert sums is not None
        extra = {"lr": self.learning_rate(step - 1)}
        if mixing is not None:
            extra["mixing"] = mixing
        return self.log_sums("train", step, sums, self.learner.dead_counts(), extra)

    def log_sums(
        self,
        split: str,
        step: int,
        sums: StepSums,
        dead: Mapping[str, int],
        extra: Mapping[str, float] | None = None,
    ) -> Line:
        """Write the figures computed from sums, and how many latents are dead by stream."""
        line = {
            "step": step,
            "epoch": step / self.record.steps_per_epoch,
            "split": split,
            **describe(sums, self.record.model.names, dead),
            **(extra or {}),
        }
        if self.log is not None:
            self.log.metrics(line)
        return line

    def save(self, step: int, position: Position, processes: Processes) -> None:
        """Write a checkpoint of the state after this step."""
        windows = _of_processes(self.window, processes)
        whole, state = self.learner.whole(), self.learner.state_in_turn()
        if self.log is None or whole is None:
            for _ in state.tensors:  # all processes take part
                pass
            return
        checkpoint = Checkpoint(
            step=step,
            position=position,
            learner=state,
            window=sums_to_tensors(windows),
            logged=self.log.sync(),
        )
        save_checkpoint(self.run, whole.model, checkpoint)

    def finish(self) -> None:
        """Write the weights of the last step."""
        whole = self.learner.whole()
        if self.log is not None and whole is not None:
            self.log.sync()
            save_finished(self.run, whole.model)


def train(
    reader: BatchReader,
    trainees: Sequence[Trainee],
    *,
    first_step: int,
    validation: ActivationCache | None,
    aligner: Aligner | None,
    processes: Processes,
    on_change: Callable[[], None],
) -> None:
    """Train to the last step, or until training of every model has failed.

    Args:
        reader: Stands at the batch of `first_step`.
        trainees: Models that agree in everything but the model and its learning.
        first_step: Steps made so far.
        validation: A cache to measure on after every epoch and at the end.
        aligner: Aligns the models after the steps that their settings name; None where none do.
        processes: The processes that share every batch.
        on_change: Called in the first process after states have been saved, and when a trainee has
            failed.

    Raises:
        KeyboardInterrupt: A signal asked to stop; the state was saved first.
    """
    record = trainees[0].record
    settings, steps = record.train, record.steps
    rows = reader.order.batch_rows
    times, loop_times = reader.times, LoopTimes(reader, processes)
    timekeeper = Timekeeper(COMMAND, loop_times.shares, advice, file=None)
    with (
        timekeeper if processes.is_first else nullcontext(),
        times.running(),
        stopping_on_signals(processes) as stopping,
        progress(
            steps * rows, "training", initial=first_step * rows, quiet=not processes.is_first
        ) as bar,
    ):
        for step in range(first_step, steps):
            batch = reader.next_batch()
            active = [trainee for trainee in trainees if trainee.failure is None]
            with times.at(Phase.STEP):
                for trainee in active:
                    trainee.learn(batch, step)
            done = step + 1
            if aligner is not None:
                with times.at(Phase.ALIGN):
                    _align(aligner, active, done)
            log = done % settings.log_every == 0 or done == steps
            stop = stopping.after_step()
            save = done % settings.checkpoint_every == 0 or done == steps or stop is not None
            if log or save:
                with times.at(Phase.STEP):  # on a GPU this waits for the steps
                    for trainee in active:
                        trainee.check(processes, weights=save)
                if any(trainee.failure for trainee in active):
                    active = [trainee for trainee in active if trainee.failure is None]
                    if processes.is_first:
                        on_change()
                    if not active:
                        return
            if log:
                mixing = _mixing(reader, done, settings.log_every)
                with times.at(Phase.STEP):
                    lines = [t.log_window(done, processes, mixing=mixing) for t in active]
                time_line = loop_times.line(done)
                for trainee in active:
                    if trainee.log is not None:
                        trainee.log.timings(time_line)
                bar.set_postfix_str(_postfix(lines, record, loop_times.bound), refresh=False)
            if validation is not None and (reader.position.step == 0 or done == steps):
                with times.at(Phase.VALIDATE):
                    _validate(validation, active, done, rows, processes)
            bar.update(rows)
            if save:
                with times.at(Phase.SAVE):
                    for trainee in active:
                        if done == steps:
                            trainee.finish()
                        else:
                            trainee.save(done, reader.position, processes)
                if processes.is_first:
                    on_change()
                if stop is not None and done < steps:
                    # `torchrun` ends all processes once one of them has ended.
                    processes.wait()
                    raise stop
    if processes.is_first:
        say_if_long(timekeeper.ended)


def _align(aligner: Aligner, trainees: Sequence[Trainee], step: int) -> None:
    """Align the models whose settings name this step."""
    for trainee in trainees:
        if step in trainee.mixes:
            aligner.align(
                trainee.learner,
                mix=trainee.mixes[step],
                discriminant=trainee.record.train.align_discriminant,
            )


def _validate(
    cache: ActivationCache,
    trainees: Sequence[Trainee],
    step: int,
    batch_size: int,
    processes: Processes,
) -> None:
    """Measure on the validation cache in the first process, for which the others wait."""
    learners = [whole for trainee in trainees if (whole := trainee.learner.whole()) is not None]
    if not processes.is_first:
        return
    names, device = trainees[0].record.model.names, processes.device
    measured = measure(cache, names, learners, batch_size=batch_size, device=device)
    for trainee, learner, sums in zip(trainees, learners, measured, strict=True):
        trainee.log_sums("validation", step, sums, learner.dead_counts())


def _of_processes(sums: StepSums | None, processes: Processes) -> list[StepSums]:
    """The sums of every process, in one exchange; none where no process has any."""
    if sums is None:
        return []
    return [sums.with_flat(flat) for flat in processes.gather(sums.flat().unsqueeze(0))]


def _mixing(reader: BatchReader, done: int, log_every: int) -> float | None:
    """How well this epoch is mixed, for its first line of metrics; else None."""
    per_epoch = reader.order.steps_per_epoch
    epoch = (done - 1) // per_epoch
    line_before = (done - 1) // log_every * log_every
    if line_before and (line_before - 1) // per_epoch == epoch:
        return None
    return reader.order.mixing(epoch)


def _postfix(lines: Sequence[Line], record: RunRecord, bound: str) -> str:
    """The text beside the progress bar."""
    losses = [line["loss"] for line in lines]
    if len(lines) > 1:
        return f"{len(lines)} runs, loss {min(losses):.3f} to {max(losses):.3f}"
    (line,) = lines
    explained = " ".join(
        f"{name} {value:.3f}" if value is not None else f"{name} -"
        for name, value in line["explained_variance"].items()
    )
    dead = sum(line["dead"].values()) / (len(line["dead"]) * record.model.latents)
    return f"loss {losses[0]:.4f}, EV {explained}, dead {dead:.1%}, {bound}"
