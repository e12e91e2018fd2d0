"""The steps of a stream that joins: the loop of training, with the other streams frozen."""

import dataclasses
from contextlib import closing

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import RunError
from sparc.common.files.folder import Folder
from sparc.common.versions import software_versions
from sparc.train.announcements import say_what_begins
from sparc.train.data.means import data_statistics
from sparc.train.data.order import Position
from sparc.train.data.reader import BatchReader
from sparc.train.distributed.processes import Processes
from sparc.train.join.config import JoinConfig
from sparc.train.loop import Trainee, train
from sparc.train.model.network import Sparc
from sparc.train.run.log import RunLog
from sparc.train.run.run_folder import DataRecord, RunRecord
from sparc.train.step.learner import Learner


class _Joining(Trainee):
    """A trainee without checkpoints: what is interrupted begins again."""

    def save(self, step: int, position: Position, processes: Processes) -> None:
        """Write nothing."""

    def finish(self) -> None:
        """Write nothing but the log: whoever joins the stream writes the model."""
        assert self.log is not None
        self.log.sync()


def make_steps(
    model: Sparc, stream: str, cache: ActivationCache, folder: Folder, config: JoinConfig
) -> int:
    """Train encoder, decoder and biases of one stream, in place; those of the others stay.

    Args:
        model: The model, on its device.
        stream: The stream that learns.
        cache: A cache with the model's streams.
        folder: Where `metrics.jsonl` and `timings.jsonl` are written.
        config: The settings.

    Returns:
        Steps made.

    Raises:
        CacheError: No row is valid in all streams.
        RunError: Training diverged.
    """
    device = model.pre_bias[stream].device
    names = model.config.names
    with BatchReader(
        cache,
        names,
        batch_size=config.batch_size,
        block_chunks=8,
        seed=config.seed,
        device=device,
    ) as reader:
        per_epoch = reader.order.steps_per_epoch
        steps = config.steps or config.epochs * per_epoch
        if not steps:
            return 0
        settings = config.training(model.config, steps=steps)
        variances: tuple[float, ...] = ()
        if settings.error == "variance":
            variances = data_statistics(cache, model.config, seed=config.seed).variances
        rows = steps * reader.order.batch_rows
        learner = Learner(
            model,
            dataclasses.replace(settings, dead_after=settings.rows_to_death(rows)),
            frozen=[name for name in names if name != stream],
            variances=variances,
        )
        data = dataclasses.replace(
            DataRecord.of(cache, names, reader.order.rows), variances=variances
        )
        record = RunRecord(
            model=model.config,
            train=settings,
            data=data,
            steps=steps,
            steps_per_epoch=per_epoch,
            device=device.type,
            kernels=learner.kernels.name,
            processes=1,
            versions=software_versions(),
        )
        with closing(RunLog(folder, record, step=0, logged=None)) as log:
            trainee = _Joining(folder, record, learner, log)
            processes = Processes(device=device)
            say_what_begins(reader, [trainee], 0, processes)
            train(
                reader,
                [trainee],
                first_step=0,
                validation=None,
                aligner=None,
                processes=processes,
                on_change=lambda: None,
            )
    if trainee.failure is not None:
        raise RunError(trainee.failure)
    return steps
