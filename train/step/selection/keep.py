"""The codes of a batch: which candidates a selector keeps, by thresholds of the batch or learned.

In training a selector with thresholds compares with those of the batch, of all processes; the model
remembers their running mean for use. Rows that lack streams are compared with the threshold of the
rows that have the same ones. Must not know what a selector decides.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.config import Precision
from sparc.train.kernels.interface import Kernels
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.model.topk import sum_in_order
from sparc.train.step.noise import Inputs
from sparc.train.step.row_terms import Gather
from sparc.train.step.rows import join_rows
from sparc.train.step.selection.logits import Logits
from sparc.train.step.selection.select import Selected, select_candidates, select_own

RATE = 0.1
"""Share of a batch's thresholds in the running mean, which covers about the last twenty batches.
They vary little from batch to batch but grow with the weights: a slower mean would lag behind."""

Streams = tuple[int, ...]
"""Positions of the streams whose logits are summed to scores."""


class Selection:
    """How the streams of a batch select, in training and in use.

    Args:
        model: The model.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each takes some rows.
        precision: Precision of the products of logits.
        gather: Joins the rows of all processes.
        own_in_training: Whether each stream's own codes are wanted in training, too.
        own_in_use: The same in use.
    """

    def __init__(
        self,
        model: Sparc,
        kernels: Kernels,
        workers: Workers,
        *,
        precision: Precision,
        gather: Gather,
        own_in_training: bool,
        own_in_use: bool,
    ) -> None:
        self._model = model
        self._kernels = kernels
        self._workers = workers
        self._precision: Precision = precision
        self._gather = gather
        self._own_in_training = own_in_training
        self._own_in_use = own_in_use

    def in_training(self, inputs: Inputs, mode: Mode) -> Selected:
        """The codes of a batch, by the thresholds of the whole batch where the selector has any."""
        return self.by_thresholds_of_batch(self._candidates(inputs, mode))

    def by_thresholds_of_batch(self, candidates: Selected) -> Selected:
        """What `in_training` selects of candidates."""
        thresholds = batch_thresholds(self._model, candidates, self._gather, self._workers)
        joint = None
        if thresholds is not None and candidates.present is not None:
            joint = batch_thresholds_by_row(self._model, candidates, self._gather)
        selected = keep(self._model, candidates, thresholds, joint)
        return self._with_own(selected) if self._own_in_training else selected

    def in_use(self, inputs: Inputs) -> Selected:
        """The codes of rows, each of which does not depend on the others."""
        candidates = self._candidates(inputs, self._model.own_mode)
        thresholds = self._model.known_thresholds()
        joint = None
        if thresholds is not None and candidates.present is not None:
            joint = learned_thresholds_by_row(self._model, candidates.present)
        selected = keep(self._model, candidates, thresholds, joint)
        return self._with_own(selected) if self._own_in_use else selected

    def _candidates(self, inputs: Inputs, mode: Mode) -> Selected:
        return select_candidates(
            self._model,
            inputs,
            precision=self._precision,
            kernels=self._kernels,
            mode=mode,
            workers=self._workers,
        )

    def _with_own(self, selected: Selected) -> Selected:
        return select_own(self._model, selected, self._workers)


def keep(
    model: Sparc, candidates: Selected, thresholds: Tensor | None, joint: Tensor | None = None
) -> Selected:
    """Set the values of the candidates that the selector leaves out to zero.

    Args:
        model: The model.
        candidates: From `select_candidates`.
        thresholds: Shaped as `Sparc.thresholds`; None where none is known.
        joint: With rows that lack streams, each row's threshold of the sum, (rows, 1).
    """
    if not model.selector.leaves_out:
        return candidates
    masks = []
    for position, streams in enumerate(_ranked_by(model, candidates)):
        indices = candidates.indices[:, position]
        scores = _scores(candidates.logits, indices, streams)
        threshold = None if thresholds is None else thresholds[_place(model, streams)]
        if joint is not None and len(streams) > 1:
            threshold = joint
        mask = model.selector.keep(scores, model.config.k, threshold)
        if mask is None:
            return candidates
        masks.append(mask)
    kept = torch.stack(masks, dim=1)
    values = candidates.values.where(kept, 0)
    return candidates._replace(values=values, kept=kept, thresholds=thresholds)


def batch_thresholds(
    model: Sparc, candidates: Selected, gather: Gather, workers: Workers
) -> Tensor | None:
    """The thresholds of a batch, shaped as `Sparc.thresholds`; None for selectors without any.

    Of rows that lack streams, that of the sum is over complete rows, and that of a stream over the
    rows that have it; NaN without any.

    Args:
        model: The model.
        candidates: The rows of this process.
        gather: Joins the rows of all processes.
        workers: Threads; each takes some rows.
    """
    if not model.selector.learns_thresholds:
        return None
    own = _ranked_by(model, candidates)
    parts = candidates.logits.parts(workers)

    def scores(streams: Streams) -> Tensor:
        def of_rows(rows: slice) -> Tensor:
            logits = candidates.logits.rows(rows)
            if streams in own:
                indices = candidates.indices[rows, own.index(streams)]
            else:
                indices, _ = logits.select(streams, model.config.width)
            return _scores(logits, indices, streams)

        return gather(join_rows(workers.map(of_rows, parts)))

    present = None if candidates.present is None else gather(candidates.present)

    def threshold(streams: Streams) -> Tensor:
        of_rows = scores(streams)
        if present is not None:
            of_rows = of_rows[present[:, streams].all(1)]
        return _batch_threshold(model, of_rows)

    every: Streams = tuple(range(len(model.config.names)))
    sums = [every, *((stream,) for stream in every)]
    by_sum = {streams: threshold(streams) for streams in dict.fromkeys(sums)}
    return torch.stack([by_sum[streams] for streams in sums])


def batch_thresholds_by_row(model: Sparc, candidates: Selected, gather: Gather) -> Tensor | None:
    """Each row's threshold of the sum, that of the batch's rows with the same streams, (rows, 1).

    Args:
        model: The model.
        candidates: The rows of this process, of which some lack streams.
        gather: Joins the rows of all processes.

    Returns:
        None where the streams select independently.
    """
    if candidates.present is None or candidates.indices.shape[1] > 1:
        return None
    every: Streams = tuple(range(len(model.config.names)))
    scores = gather(_scores(candidates.logits, candidates.indices[:, 0], every))
    sets = gather(candidates.present)

    def threshold(has: Tensor) -> Tensor:
        return _batch_threshold(model, scores[(sets == has).all(1)])

    return _by_row(candidates.present, threshold)


def learned_thresholds_by_row(model: Sparc, present: Tensor) -> Tensor:
    """Each row's threshold of the sum, as it was learned for the streams that it has, (rows, 1).

    Args:
        model: The model, whose thresholds are known.
        present: As `Selected.present`.
    """

    def threshold(has: Tensor) -> Tensor:
        known = model.threshold([model.config.names[stream] for stream in has.nonzero().flatten()])
        assert known is not None
        return known

    return _by_row(present, threshold)


def _by_row(present: Tensor, threshold: Callable[[Tensor], Tensor]) -> Tensor:
    """A threshold that depends on a row's streams, (streams,) bool, for all rows, (rows, 1)."""
    sets, which = present.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    return torch.stack([threshold(has) for has in sets])[which].unsqueeze(1)


def _batch_threshold(model: Sparc, scores: Tensor) -> Tensor:
    if not len(scores):
        return scores.new_full((), torch.nan)
    return model.selector.batch_threshold(scores, model.config.k)


def learn_thresholds(model: Sparc, thresholds: Tensor | None) -> None:
    """Move the model's thresholds towards those of a batch, if known; the first batch sets them."""
    learned = model.thresholds
    if learned is None or thresholds is None:
        return
    batch = thresholds.to(learned.dtype)
    moved = torch.where(learned.isnan(), batch, learned.lerp(batch, RATE))
    learned.copy_(torch.where(batch.isnan(), learned, moved))


def _ranked_by(model: Sparc, candidates: Selected) -> list[Streams]:
    """For each set of indices, the streams by whose logits they were ranked."""
    every = tuple(range(len(model.config.names)))
    shared = candidates.indices.shape[1] == 1
    return [every] if shared else [(stream,) for stream in every]


def _place(model: Sparc, streams: Streams) -> int:
    """Where `Sparc.thresholds` has that of a sum."""
    return 0 if len(streams) == len(model.config.names) else 1 + streams[0]


def _scores(logits: Logits, indices: Tensor, streams: Streams) -> Tensor:
    """Sums of logits of some latents, (rows, width).

    Args:
        logits: Of the rows.
        indices: The latents, (rows, width).
        streams: The streams to sum over.
    """
    return sum_in_order([logits.at(stream, indices) for stream in streams])
