"""The batch up to its codes: products with the encoders, their precision, and TopK.

`arXiv 2507.06265`, section 3. Must not know what the codes are compared with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.config import Precision
from sparc.train.kernels.interface import Kernels
from sparc.train.kernels.screening.low_logits import Screen, begin, pays
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc, scale
from sparc.train.step.noise import Inputs
from sparc.train.step.rows import join_streams, row_slices, rows_of
from sparc.train.step.selection.logits import AllLogits, Logits, ScreenedLogits

ONE_WORKER = Workers()

_LATENTS_AT_ONCE = 2048
"""Encoder rows in one matrix product of a worker."""


class Selected(NamedTuple):
    """A batch up to its codes. Tuples have an entry a stream, in order.

    Attributes:
        features: Normalized features, (rows, dim).
        square_norms: Their squared norms, (rows,).
        centred: Features minus the pre-bias, (rows, dim).
        read: What the encoders multiply: `centred`, with noise if there is any.
        logits: `read` times the encoders, plus the latent biases.
        indices: Latents of the rows, (rows, 1, width) where the streams share them, else
            (rows, streams, width).
        values: (rows, streams, width), zero where the selector left a latent out.
        kept: Which of `indices` are selected, of the same shape; None: all.
        thresholds: What the selector compared scores with, shaped as `Sparc.thresholds`, or None.
        own: The k latents that each stream would select independently, (rows, streams, k); None
            where nothing asks for them.
        own_values: Their values, likewise; those of `logits`, without higher precision.
        present: As `Inputs.present`. Of a stream that a row lacks, features, centred, read, logits
            and values are zero, and indices, square norms and `own` mean nothing.
    """

    features: tuple[Tensor, ...]
    square_norms: tuple[Tensor, ...]
    centred: tuple[Tensor, ...]
    read: tuple[Tensor, ...]
    logits: Logits
    indices: Tensor
    values: Tensor
    kept: Tensor | None = None
    thresholds: Tensor | None = None
    own: Tensor | None = None
    own_values: Tensor | None = None
    present: Tensor | None = None

    def rows(self, rows: slice) -> "Selected":
        """Some of the rows."""
        return Selected(
            rows_of(self.features, rows),
            rows_of(self.square_norms, rows),
            rows_of(self.centred, rows),
            rows_of(self.read, rows),
            self.logits.rows(rows),
            self.indices[rows],
            self.values[rows],
            None if self.kept is None else self.kept[rows],
            self.thresholds,
            None if self.own is None else self.own[rows],
            None if self.own_values is None else self.own_values[rows],
            None if self.present is None else self.present[rows],
        )

    @property
    def several(self) -> Tensor | None:
        """Which rows have at least two streams, which alone can select jointly, (rows,) bool.

        None: all, if the model has at least two.
        """
        streams = len(self.features)
        return None if self.present is None or streams == 1 else self.present.sum(1) > 1


def select_candidates(
    model: Sparc,
    inputs: Inputs,
    *,
    precision: Precision,
    kernels: Kernels,
    mode: Mode | None = None,
    workers: Workers = ONE_WORKER,
) -> Selected:
    """Normalize a batch and find the `width` latents of each row with the largest scores.

    That is all of the selection, unless `step.selection.keep` leaves some of them out.

    Args:
        model: The model.
        inputs: The batch, no feature zero. Of a row that lacks streams the others select.
        precision: Arithmetic of the product with the encoders; the values of selected latents are
            computed again in full precision.
        kernels: The implementation of the sparse mathematics.
        mode: Whether the streams select jointly or independently; by default as the model does.
        workers: Threads; each takes some rows.
    """
    read = read_inputs(model, inputs)
    screen = kernels.screen if precision == "float32" else None
    logits: Logits
    if screen is not None and _can_screen(model, read.read):
        logits = _screened(model, read, screen, workers)
    else:
        products = read_products(model, read.read, read.present, precision, workers)
        logits = AllLogits(products, _biases(model), kernels)
    return choose(model, read, logits, precision, kernels, mode or model.own_mode, workers)


class ReadInputs(NamedTuple):
    """A batch up to what the encoders multiply; the fields are those of `Selected`."""

    features: tuple[Tensor, ...]
    square_norms: tuple[Tensor, ...]
    centred: tuple[Tensor, ...]
    read: tuple[Tensor, ...]
    present: Tensor | None


def read_inputs(model: Sparc, inputs: Inputs) -> ReadInputs:
    """Normalize and centre a batch, and add its noise.

    Args:
        model: The model.
        inputs: The batch, no feature zero.
    """
    names, present = model.config.names, inputs.present
    raw = tuple(inputs.features[name] for name in names)
    if present is not None:
        raw = _where_present(present, raw, 1.0)
    features = tuple(scale(x, model.config) for x in raw)
    square_norms = tuple(x.square().sum(1) for x in features)
    centred = tuple(x - model.pre_bias[name] for name, x in zip(names, features, strict=True))
    read = centred
    if inputs.noise is not None:
        read = tuple(
            torch.addcmul(x, inputs.noise[name], squares.sqrt().unsqueeze(1))
            for name, x, squares in zip(names, centred, square_norms, strict=True)
        )
    if present is not None:
        features = _where_present(present, features, 0.0)
        centred = _where_present(present, centred, 0.0)
        read = _where_present(present, read, 0.0)
    return ReadInputs(features, square_norms, centred, read, present)


def read_products(
    model: Sparc,
    read: tuple[Tensor, ...],
    present: Tensor | None,
    precision: Precision,
    workers: Workers,
) -> tuple[Tensor, ...]:
    """`AllLogits.all_products` of rows, for the latents of the model.

    Args:
        model: The model.
        read: By stream, what the encoders multiply, (rows, dim).
        present: As `Inputs.present`.
        precision: Arithmetic of the products.
        workers: Threads; each takes some latents.
    """
    products = _products(model, read, precision, workers)
    return products if present is None else _without_missing(model, products, present, workers)


def choose(
    model: Sparc,
    read: ReadInputs,
    logits: Logits,
    precision: Precision,
    kernels: Kernels,
    mode: Mode,
    workers: Workers,
) -> Selected:
    """The candidates of rows by their logits; arguments as of `select_candidates`."""
    pieces = logits.parts(workers)

    def select_rows(rows: slice) -> tuple[Tensor, Tensor]:
        part = rows_of(read.read, rows)
        return _candidates(model, part, logits.rows(rows), precision, kernels, mode)

    indices, values = join_streams(workers.map(select_rows, pieces))
    features, square_norms, centred, encoded, present = read
    if present is not None:
        values = values.where(present.unsqueeze(2), 0)
    return Selected(
        features, square_norms, centred, encoded, logits, indices, values, present=present
    )


def _where_present(
    present: Tensor, tensors: tuple[Tensor, ...], other: float
) -> tuple[Tensor, ...]:
    """By stream, (rows, dim), with another number in the rows that lack the stream."""
    columns = present.unsqueeze(2).unbind(1)
    return tuple(x.where(has, other) for x, has in zip(tensors, columns, strict=True))


def _without_missing(
    model: Sparc, products: tuple[Tensor, ...], present: Tensor, workers: Workers
) -> tuple[Tensor, ...]:
    """Products whose logits are zero in the rows that lack the stream.

    In the precision of the biases: in a lower one the sum of the two would not be zero.
    """

    def of_stream(position: int) -> Tensor:
        bias, product = model.latent_bias[model.config.names[position]], products[position]
        return torch.where(present[:, position, None], product.to(bias.dtype), -bias)

    return tuple(workers.map(of_stream, range(len(products))))


def select_own(model: Sparc, selected: Selected, workers: Workers) -> Selected:
    """A batch that was selected jointly, with `own` and its values; another one as it is.

    Args:
        model: The model.
        selected: The batch.
        workers: Threads, some rows each.
    """
    streams, k = range(len(model.config.names)), model.config.k
    if selected.indices.shape[1] == len(streams):
        return selected

    def of_rows(rows: slice) -> tuple[Tensor, Tensor]:
        logits = selected.logits.rows(rows)
        indices, values = zip(*(logits.select([stream], k) for stream in streams), strict=True)
        return torch.stack(indices, dim=1), torch.cat(values, dim=1)

    pieces = selected.logits.parts(workers)
    own, values = join_streams(workers.map(of_rows, pieces))
    return selected._replace(own=own, own_values=values)


def _candidates(
    model: Sparc,
    read: tuple[Tensor, ...],
    logits: Logits,
    precision: Precision,
    kernels: Kernels,
    mode: Mode,
) -> tuple[Tensor, Tensor]:
    """`Selected.indices` and `Selected.values` of some rows."""
    names, width = model.config.names, model.config.width
    biases, streams = _biases(model), range(len(names))
    if mode == "joint":
        shared, values = logits.select(streams, width)
        indices = shared.unsqueeze(1)
    else:
        by_stream = [logits.select([stream], width) for stream in streams]
        indices = torch.stack([indices for indices, _ in by_stream], dim=1)
        values = torch.cat([values for _, values in by_stream], dim=1)
    if precision == "float32":
        return indices, values
    exact = []
    for position, name in enumerate(names):
        own = indices[:, 0 if indices.shape[1] == 1 else position]
        products = kernels.value_gradients(
            own, read[position].unsqueeze(1), model.encoder[name]
        ).squeeze(1)
        exact.append(products + biases[position][own])
    return indices, torch.stack(exact, dim=1).relu_()


def _biases(model: Sparc) -> tuple[Tensor, ...]:
    return tuple(model.latent_bias[name].detach() for name in model.config.names)


def _can_screen(model: Sparc, read: tuple[Tensor, ...]) -> bool:
    return pays(model.config.latents, model.config.width) and all(
        x.dtype == torch.float32 for x in read
    )


def _screened(model: Sparc, read: ReadInputs, screen: Screen, workers: Workers) -> ScreenedLogits:
    """The logits of a batch, with products in bfloat16."""
    names = model.config.names
    columns = [None] * len(names) if read.present is None else read.present.unbind(1)
    streams = tuple(
        begin(x, model.encoder[name].detach(), bias, has)
        for name, x, bias, has in zip(names, read.read, _biases(model), columns, strict=True)
    )

    def fill(piece: tuple[int, slice]) -> None:
        stream, latents = piece
        screen.fill(streams[stream], latents)

    workers.map(fill, _pieces(model, read.read))
    return ScreenedLogits(streams, screen)


def _pieces(model: Sparc, read: tuple[Tensor, ...]) -> list[tuple[int, slice]]:
    """Streams and latents whose products are one piece of work, the widest first."""
    parts = row_slices(model.config.latents, _LATENTS_AT_ONCE)
    widest_first = sorted(range(len(read)), key=lambda stream: -read[stream].shape[1])
    return [(stream, part) for stream in widest_first for part in parts]


def _products(
    model: Sparc, read: tuple[Tensor, ...], precision: Precision, workers: Workers
) -> tuple[Tensor, ...]:
    names = model.config.names
    if read[0].device.type != "cpu":
        return tuple(
            _product(y, model.encoder[name], precision) for name, y in zip(names, read, strict=True)
        )
    products = tuple(y.new_empty(len(y), model.config.latents) for y in read)

    def multiply(piece: tuple[int, slice]) -> None:
        stream, latents = piece
        weight = model.encoder[names[stream]].detach()
        torch.mm(read[stream], weight[latents].T, out=products[stream][:, latents])

    workers.map(multiply, _pieces(model, read))
    return products


def _product(read: Tensor, encoder: Tensor, precision: Precision) -> Tensor:
    if precision == "bfloat16":
        return read.bfloat16() @ encoder.bfloat16().T
    if precision == "tf32":
        with _tf32():
            return read @ encoder.T
    return read @ encoder.T


@contextmanager
def _tf32() -> Iterator[None]:
    """Let products of float32 matrices use TF32 within the block."""
    settings = torch.backends.cuda.matmul
    # PyTorch 2.9 renamed the switch, and warns about the old name.
    name, value = (
        ("fp32_precision", "tf32") if hasattr(settings, "fp32_precision") else ("allow_tf32", True)
    )
    before = getattr(settings, name)
    setattr(settings, name, value)
    try:
        yield
    finally:
        setattr(settings, name, before)
