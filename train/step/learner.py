"""One training step: from a batch of raw features to changed weights and the figures of the step.

The mathematics is `objective` (forward and derivatives), `gradients` (sums over rows) and
`sparc.train.kernels.adam`; this module puts them in order. It must not know where batches come
from, when to log or how processes find each other.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from sparc.common.errors import ConfigError, RunError
from sparc.common.workers import Workers
from sparc.train import kernels as kernel_choice
from sparc.train.config import Kernels, Recipe, TrainConfig
from sparc.train.kernels.adam import Adam, AdamStep, move
from sparc.train.kernels.interface import WeightGradient, gradient_rows
from sparc.train.model.initialize import generator
from sparc.train.model.network import Sparc
from sparc.train.step.deadness import DeadLatents
from sparc.train.step.gradients import Gather, StreamGradients, gather_terms, stream_gradients
from sparc.train.step.graph import StepGraphs
from sparc.train.step.objective import (
    Dead,
    Precision,
    Revival,
    RowTerms,
    Selected,
    TargetTerms,
    compare,
    join_revivals,
    join_rows,
    join_targets,
    pair_weights,
    revive,
    row_slices,
    row_terms,
    select,
    share_rows,
    square_errors,
)

Result = TypeVar("Result")

GRAPHED_LOGITS = 1 << 25
"""Most logits of a stream in a batch whose step is recorded as a CUDA graph. The host keeps up with
larger ones, whose intermediate results would take memory twice."""
LOOK_EVERY = 64
"""Steps with AuxK after which a GPU is asked again whether any latent is dead."""
REINITIALIZE_EVERY = 100
"""Steps between two looks for dead latents to re-initialize, in the published recipe."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """What a training step depends on, besides the batch and the learning rate.

    Attributes:
        recipe: `default`, or `published` with its quirks.
        cross_weight: Weight of cross-reconstruction; 0 skips it.
        aux_weight: Weight of AuxK.
        auxk: Dead latents that a row tries to revive; 0 turns AuxK off.
        dead_after: Rows without a value after which a latent is dead (default recipe).
        dead_after_steps: The same in steps (published recipe).
        clip: Largest norm of the whole gradient; 0 does not clip.
        seed: Seed of re-initialized weights (published recipe).
        precision: Arithmetic of the product that selects; all but float32 need a GPU.
        kernels: Which implementation of the sparse mathematics.
    """

    recipe: Recipe = "default"
    cross_weight: float = 1.0
    aux_weight: float = 1 / 32
    auxk: int = 64
    dead_after: int = 256_000
    dead_after_steps: int = 1000
    clip: float = 0.0
    seed: int = 42
    precision: Precision = "float32"
    kernels: Kernels = "auto"

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        """The settings of a run that belong to a step."""
        names = {field.name for field in dataclasses.fields(cls)} - {"dead_after_steps"}
        return cls(**{name: getattr(config, name) for name in names})


class Losses(NamedTuple):
    """The terms of the loss, means over the batch.

    Attributes:
        total: The loss, a scalar.
        nmse: Of the reconstruction of each target from each source, (targets, sources); the
            diagonal is self-reconstruction. NaN for pairs that were not decoded.
        aux: By stream, (streams,); 0 where no latent is dead.
    """

    total: Tensor
    nmse: Tensor
    aux: Tensor


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype


class StepSums(NamedTuple):
    """Figures of a batch as sums over its rows: add them over steps and processes, then divide.

    Tensors of float64 on the learner's device; nothing waits for it. A loss that is not finite
    stays so in every sum.

    Attributes:
        rows: Rows of the batch.
        loss: The loss.
        nmse: |r - x|^2 / |x|^2, (targets, sources). NaN for pairs that a step without cross loss
            does not decode; `Learner.measure` decodes all.
        squared_error: |r - x|^2, (targets, sources), NaN as above.
        feature_sum: By stream, the normalized features, (dim,).
        feature_square_sum: Their squared norms, (streams,).
        aux: AuxK, (streams,).
        active: Values above zero, (streams,): divided by rows, the true L0.
        chosen: Latents that were compared for `chosen_alone`.
        chosen_alone: How many of those each stream would have chosen by itself, (streams,).
    """

    rows: Tensor
    loss: Tensor
    nmse: Tensor
    squared_error: Tensor
    feature_sum: tuple[Tensor, ...]
    feature_square_sum: Tensor
    aux: Tensor
    active: Tensor
    chosen: Tensor
    chosen_alone: Tensor

    def flat(self) -> Tensor:
        """All of them in one vector, (sums,)."""
        parts = [part for each in self for part in (each if isinstance(each, tuple) else (each,))]
        return torch.cat([part.reshape(-1) for part in parts])

    @classmethod
    def zeros(cls, dims: Sequence[int]) -> "StepSums":
        """The sums over no rows.

        Args:
            dims: Widths of the streams.
        """
        streams = len(dims)
        sums = 2 * streams * streams + sum(dims) + 4 * streams + 3
        return cls.from_flat(torch.zeros(sums, dtype=torch.float64), dims)

    @classmethod
    def from_flat(cls, flat: Tensor, dims: Sequence[int]) -> "StepSums":
        """The sums that `flat` put into one vector.

        Args:
            flat: (sums,).
            dims: Widths of the streams.
        """
        streams = len(dims)
        pairs, each = streams * streams, [streams] * 3
        rows, loss, nmse, errors, *rest = torch.split(
            flat, [1, 1, pairs, pairs, *dims, *each, 1, streams]
        )
        norms, aux, active, chosen, alone = rest[streams:]
        return cls(
            rows=rows[0],
            loss=loss[0],
            nmse=nmse.view(streams, streams),
            squared_error=errors.view(streams, streams),
            feature_sum=tuple(rest[:streams]),
            feature_square_sum=norms,
            aux=aux,
            active=active,
            chosen=chosen[0],
            chosen_alone=alone,
        )

    def __add__(self, other: object) -> "StepSums":
        """The sums over the rows of both."""
        if not isinstance(other, StepSums):
            return NotImplemented
        features = zip(self.feature_sum, other.feature_sum, strict=True)
        joined = {
            name: getattr(self, name) + getattr(other, name)
            for name in self._fields
            if name != "feature_sum"
        }
        return StepSums(feature_sum=tuple(a + b for a, b in features), **joined)


class _Block(NamedTuple):
    """Some rows of a weight, few enough to stay in a cache while they are moved.

    Attributes:
        name: Of the weight.
        rows: Which of its rows.
    """

    name: str
    rows: slice


class Learner:
    """Changes a model's weights, a batch at a time.

    Args:
        model: The model, on its device.
        settings: The recipe.
        gather: With several processes, joins rows of all of them (see `gradients.Gather`): each
            gives its part of the batch and all make the same step, that of the whole batch. The
            parts must be of equal size if the hook demands it. The weights must be equal at first.
        graphs: Whether small steps on a GPU are recorded as CUDA graphs.

    Attributes:
        kernels: The implementation of the sparse mathematics that was chosen.

    Raises:
        ConfigError: Settings that this device cannot fulfil.
    """

    def __init__(
        self,
        model: Sparc,
        settings: LearnerSettings,
        *,
        gather: Gather | None = None,
        graphs: bool = True,
    ) -> None:
        self.model = model
        self.settings = settings
        self._gather: Gather = gather or _this_process_alone
        self._device = next(model.parameters()).device
        if settings.precision != "float32" and self._device.type != "cuda":
            raise ConfigError(f"precision {settings.precision} needs a GPU; use float32")
        self.kernels = kernel_choice.choose(settings.kernels, self._device)
        self._workers = Workers.of(self._device)
        config = model.config
        published = settings.recipe == "published"
        self._dead_latents = DeadLatents(
            config.names,
            config.latents,
            recipe=settings.recipe,
            threshold=settings.dead_after_steps if published else settings.dead_after,
            device=self._device,
        )
        self._adam = Adam(dict(model.named_parameters()))
        dtype = model.latent_bias[config.names[0]].dtype
        self._weights = pair_weights(len(config.names), settings.cross_weight)
        self._weights = self._weights.to(self._device, dtype)
        self._graphs: dict[bool, StepGraphs] = {}
        self._revives_until = 0
        if graphs and self._device.type == "cuda" and gather is None:
            self._graphs = {
                revives: StepGraphs(functools.partial(self._figures, revives=revives))
                for revives in (False, True)
            }

    @torch.no_grad()
    def step(self, batch: Mapping[str, Tensor], lr: float) -> StepSums:
        """Learn from a batch.

        Args:
            batch: By stream, raw features, (rows, dim), on the device; no row zero or not finite.
            lr: Learning rate.

        Returns:
            The figures of this process's rows, at the weights before the step.
        """
        with self._workers.one_thread_each():
            return self._step(batch, lr)

    def _step(self, batch: Mapping[str, Tensor], lr: float) -> StepSums:
        config, rows = self.model.config, len(next(iter(batch.values())))
        self._adam.begin_step(lr)
        if self._graphs and rows * config.latents <= GRAPHED_LOGITS:
            learn = self._graphs[self._may_revive(rows)]
            self._dead_latents.pass_by(rows)
            figures = learn({name: batch[name] for name in config.names})
            sums = StepSums.from_flat(figures, [stream.dim for stream in config.streams])
        else:
            sums = self._learn(batch)
        if self.settings.recipe == "published":
            self._reinitialize()
        return sums

    def _figures(self, batch: Mapping[str, Tensor], *, revives: bool) -> Tensor:
        return self._learn(batch, revives=revives).flat()

    def _learn(self, batch: Mapping[str, Tensor], *, revives: bool | None = None) -> StepSums:
        """A step but for Adam's beginning and re-initialization.

        Args:
            batch: As for `step`.
            revives: Whether there is AuxK; None finds out, for which it may wait for the device.
        """
        selected = self._select(batch)
        indices, values = self._gather(selected.indices), self._gather(selected.values)
        settings, selection = self.settings, self.model.config.selection
        if revives is None:
            revives = self._may_revive(len(indices))
            self._dead_latents.pass_by(len(indices))
        if settings.recipe == "published" and selection == "local":
            # As published: local selection revives what was dead before this batch counts.
            dead = self._dead(revives=revives)
            self._dead_latents.count(indices, values)
        else:
            self._dead_latents.count(indices, values)
            dead = self._dead(revives=revives)
        errors, terms = self._row_terms(selected, dead)
        alone = max(1, len(selected.values) // 32)
        sums = self._sums(selected, errors, terms.revivals, compare_rows=alone)
        terms = gather_terms(terms._replace(indices=indices, values=values), self._gather)
        divisors = self._normalize_decoders() if settings.recipe == "published" else {}
        gradients = stream_gradients(self.model, terms, self.kernels, self._workers)
        self._update(gradients, divisors, self._adam.this_step)
        return sums

    @torch.no_grad()
    def measure(self, batch: Mapping[str, Tensor]) -> StepSums:
        """The figures of a batch, all pairs of streams decoded; changes nothing.

        Args:
            batch: As for `step`.
        """
        with self._workers.one_thread_each():
            selected = self._select(batch)
            dead = self._dead(revives=self._may_revive(0))

            def figures(target: int, rows: slice) -> tuple[Tensor, Revival | None]:
                part = selected.rows(rows)
                if dead[target] is None:
                    return square_errors(self.model, part, target, kernels=self.kernels), None
                terms = self._compare(part, target, cross=True)
                return terms.square_errors, self._revive(part, target, terms, dead[target])

            found = self._for_each_target(selected, figures)
            errors = [join_rows([errors for errors, _ in parts]) for parts in found]
            revivals = [join_revivals([revival for _, revival in parts]) for parts in found]
            rows = len(selected.values)
            return self._sums(selected, torch.stack(errors, dim=1), revivals, compare_rows=rows)

    def losses(self, batch: Mapping[str, Tensor]) -> Losses:
        """The terms of the loss of a batch, all pairs decoded; changes nothing.

        Args:
            batch: As for `step`.
        """
        sums = self.measure(batch)
        return Losses(sums.loss / sums.rows, sums.nmse / sums.rows, sums.aux / sums.rows)

    @torch.no_grad()
    def gradients(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gradient of the loss, dense, by name of parameter; changes nothing.

        This is the plain gradient: nothing is projected or clipped.

        Args:
            batch: As for `step`.
        """
        selected = self._select(batch)
        _, terms = self._row_terms(selected, self._dead(revives=self._may_revive(0)))
        indices, values = self._gather(terms.indices), self._gather(terms.values)
        terms = gather_terms(terms._replace(indices=indices, values=values), self._gather)
        dense = {}
        latents = self.model.config.latents
        gradients = stream_gradients(self.model, terms, self.kernels, self._workers)
        for stream, each in gradients.items():
            for kind, gradient in (("encoder", each.encoder), ("decoder", each.decoder)):
                weight = self.model.get_parameter(f"{kind}.{stream}")
                dense[f"{kind}.{stream}"] = gradient_rows(
                    self.kernels, weight, gradient, 0, latents
                )
            dense[f"pre_bias.{stream}"] = each.pre_bias
            dense[f"latent_bias.{stream}"] = each.latent_bias
        return dense

    def dead_counts(self) -> dict[str, int]:
        """How many latents are dead now, by stream; waits for the device."""
        return {name: len(self._dead_latents.dead(name)) for name in self.model.config.names}

    def state(self) -> dict[str, Tensor]:
        """What a learner must remember besides the weights to go on bit for bit, by name."""
        state = {"steps": torch.tensor(self._adam.number)}
        for name, moments in self._adam.moments.items():
            state[f"first.{name}"] = moments.first
            state[f"second.{name}"] = moments.second
        for name, counter in self._dead_latents.since_active.items():
            state[f"since_active.{name}"] = counter
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned.

        Args:
            state: Tensors by name, on any device.

        Raises:
            RunError: It is the state of another model.
        """
        own = self.state()
        for name in sorted(own.keys() | state.keys()):
            if name not in state or name not in own or not _alike(own[name], state[name]):
                raise RunError(f"the optimizer's state does not fit this model: {name}")
        self._adam.restore(int(state["steps"]))
        for name, tensor in own.items():
            if name.startswith("since_active."):
                self._dead_latents.restore(name.removeprefix("since_active."), state[name])
            elif name != "steps":
                tensor.copy_(state[name])

    def _select(self, batch: Mapping[str, Tensor]) -> Selected:
        return select(
            self.model,
            batch,
            precision=self.settings.precision,
            kernels=self.kernels,
            workers=self._workers,
        )

    def _for_each_target(
        self, selected: Selected, function: Callable[[int, slice], Result]
    ) -> list[list[Result]]:
        """By target, the results of a function of target and rows for all parts of a batch.

        All parts of a target come before the next: its decoder is what wants to stay in a cache.
        """
        parts = share_rows(selected.values, self.kernels, self._workers)
        targets = range(len(self.model.config.names))
        pieces = [(target, rows) for target in targets for rows in parts]
        results = self._workers.map(lambda piece: function(*piece), pieces)
        return [results[len(parts) * target :][: len(parts)] for target in targets]

    def _row_terms(
        self, selected: Selected, dead: tuple[Dead | None, ...]
    ) -> tuple[Tensor, RowTerms]:
        """The squared errors of a batch, (rows, targets, sources), and its row terms."""
        cross = self.settings.cross_weight > 0

        def work_out(target: int, rows: slice) -> tuple[TargetTerms, Revival | None]:
            part = selected.rows(rows)
            terms = self._compare(part, target, cross=cross)
            return terms, self._revive(part, target, terms, dead[target])

        found = self._for_each_target(selected, work_out)
        targets = [join_targets([terms for terms, _ in parts]) for parts in found]
        revivals = [join_revivals([revival for _, revival in parts]) for parts in found]
        errors = torch.stack([each.square_errors for each in targets], dim=1)
        return errors, row_terms(selected, targets, revivals)

    def _compare(self, selected: Selected, target: int, *, cross: bool) -> TargetTerms:
        return compare(
            self.model, selected, target, self._weights, cross=cross, kernels=self.kernels
        )

    def _may_revive(self, rows: int) -> bool:
        """Whether AuxK may have something to do when so many more rows have passed."""
        settings = self.settings
        if not settings.auxk or not settings.aux_weight:
            return False
        if settings.recipe == "published" or self._adam.number < self._revives_until:
            return True
        if self._dead_latents.none_can_be_dead(after=rows):
            return False
        if self._device.type != "cpu":
            # It asked the device, which need not be asked in every step: AuxK without dead latents
            # takes time but is zero.
            self._revives_until = self._adam.number + LOOK_EVERY
        return True

    def _dead(self, *, revives: bool) -> tuple[Dead | None, ...]:
        """By stream, the latents that AuxK tries to revive; None where there is no AuxK."""
        names, published = self.model.config.names, self.settings.recipe == "published"
        if not revives:
            return (None,) * len(names)
        found: list[Dead | None] = []
        for name in names:
            decoder, bias = self.model.decoder[name], self.model.latent_bias[name]
            if self._device.type != "cpu":
                are_dead = self._dead_latents.are_dead(name)
                every = torch.arange(len(decoder), device=self._device)
                biases = bias.masked_fill(~are_dead, -torch.inf)
                # The published recipe counts AuxK where nothing is dead, too.
                found.append(Dead(every, decoder, biases, None if published else are_dead.any()))
                continue
            latents = self._dead_latents.dead(name)
            if not len(latents) and not published:
                found.append(None)
                continue
            found.append(Dead(latents, decoder.index_select(0, latents), bias[latents]))
        return tuple(found)

    def _revive(
        self, selected: Selected, target: int, terms: TargetTerms, dead: Dead | None
    ) -> Revival | None:
        if dead is None:
            return None
        return revive(
            self.model,
            selected,
            terms.own_errors(target),
            target,
            dead,
            auxk=self.settings.auxk,
            weight=self.settings.aux_weight / len(self.model.config.names),
            kernels=self.kernels,
        )

    def _sums(
        self,
        selected: Selected,
        errors: Tensor,
        revivals: Sequence[Revival | None],
        *,
        compare_rows: int,
    ) -> StepSums:
        """The figures of a batch.

        Args:
            selected: The batch.
            errors: |r - x|^2, (rows, targets, sources).
            revivals: AuxK by stream.
            compare_rows: Rows on which to find out what each stream would have chosen alone.
        """
        rows, streams, k = selected.values.shape
        names = self.model.config.names
        squared = errors.double()
        norms = torch.stack(selected.square_norms, dim=1).double()
        nmse = (squared / norms.unsqueeze(2)).sum(0)
        zero = nmse.new_zeros(())
        aux = torch.stack(
            [zero if each is None else each.losses.double().sum() for each in revivals]
        )
        weights = self._weights.double()
        # A pair that was not decoded is NaN and has weight zero.
        weighted = torch.where(weights > 0, weights * nmse, 0)
        loss = weighted.sum() + self.settings.aux_weight / streams * aux.sum()
        if selected.indices.shape[1] > 1 or streams == 1:
            chosen_alone = nmse.new_full((streams,), compare_rows * k)
        else:
            shared = selected.indices[:compare_rows, 0]
            alone = []
            for name, product in zip(names, selected.products, strict=True):
                compared, bias = product[:compare_rows], self.model.latent_bias[name]
                own, _ = self.kernels.select([compared], [bias], k)
                least = (compared.gather(1, own) + bias[own]).amin(1, keepdim=True)
                alone.append((compared.gather(1, shared) + bias[shared] >= least).sum())
            chosen_alone = torch.stack(alone).double()
        return StepSums(
            rows=nmse.new_full((), rows),  # new_tensor would wait for the device
            loss=loss,
            nmse=nmse,
            squared_error=squared.sum(0),
            feature_sum=tuple(x.sum(0).double() for x in selected.features),
            feature_square_sum=norms.sum(0),
            aux=aux,
            active=(selected.values > 0).sum((0, 2)).double(),
            chosen=nmse.new_full((), compare_rows * k),
            chosen_alone=chosen_alone,
        )

    def _update(
        self,
        gradients: Mapping[str, StreamGradients],
        divisors: Mapping[str, Tensor],
        step: AdamStep,
    ) -> None:
        """Move all parameters; the large ones block by block.

        Args:
            gradients: By stream.
            divisors: By stream, by what the decoder's rows were divided since their gradient was
                taken, (L,); a stream may be missing.
            step: Adam's step.
        """
        weights: dict[str, WeightGradient] = {}
        vectors: dict[str, Tensor] = {}
        for stream, each in gradients.items():
            along = each.parallel
            if stream in divisors:
                along = along / divisors[stream]
            weights[f"encoder.{stream}"] = each.encoder
            # The part along a unit row would only change its norm.
            weights[f"decoder.{stream}"] = each.decoder._replace(along=along)
            vectors[f"pre_bias.{stream}"] = each.pre_bias
            vectors[f"latent_bias.{stream}"] = each.latent_bias
        parameters = dict(self.model.named_parameters())
        blocks = [
            _Block(name, rows)
            for name in weights
            for rows in row_slices(len(parameters[name]), self.kernels.block_rows(parameters[name]))
        ]
        scale = None
        if self.settings.clip > 0:
            scale = self._clip(parameters, weights, vectors, blocks)

        def move_block(block: _Block) -> None:
            self.kernels.update(
                parameters[block.name],
                self._adam.moments[block.name],
                weights[block.name],
                block.rows,
                step,
                scale=scale,
                unit_rows=self.settings.recipe == "default" and block.name.startswith("decoder."),
            )

        self._workers.map(move_block, blocks)
        for name, gradient in vectors.items():
            if scale is not None:
                gradient.mul_(scale)
            move(parameters[name], gradient, self._adam.moments[name], step)

    def _clip(
        self,
        parameters: Mapping[str, Tensor],
        weights: Mapping[str, WeightGradient],
        vectors: Mapping[str, Tensor],
        blocks: Sequence[_Block],
    ) -> Tensor:
        """What the whole gradient is multiplied by so that it is not too long, a scalar."""

        def square(block: _Block) -> Tensor:
            weight, gradient = parameters[block.name], weights[block.name]
            first, last = block.rows.start, block.rows.stop
            rows = gradient_rows(self.kernels, weight, gradient, first, last)
            return rows.double().square().sum()

        squares = self._workers.map(square, blocks)
        squares += [gradient.double().square().sum() for gradient in vectors.values()]
        norm = torch.stack(squares).sum().sqrt()
        return (self.settings.clip / norm).clamp(max=1).to(self._weights.dtype)

    def _normalize_decoders(self) -> dict[str, Tensor]:
        """Scale decoder rows to unit norm (published), and say what they were divided by."""
        divisors = {}
        for stream in self.model.config.names:
            decoder = self.model.decoder[stream]
            divisors[stream] = decoder.norm(dim=1) + 1e-8
            decoder.div_(divisors[stream].unsqueeze(1))
        return divisors

    def _reinitialize(self) -> None:
        """Draw the encoders of dead latents anew, every so many steps (published)."""
        if (self._adam.number - 1) % REINITIALIZE_EVERY or self._dead_latents.none_can_be_dead():
            return
        for stream in self.model.config.names:
            dead = self._dead_latents.dead(stream)
            encoder = self.model.encoder[stream]
            draws = generator(self.settings.seed, "reinitialize", self._adam.number, stream)
            fresh = torch.randn(len(dead), encoder.shape[1], generator=draws, dtype=encoder.dtype)
            encoder[dead] = 0.01 * fresh.to(self._device)
            self.model.latent_bias[stream][dead] = 0
            self._dead_latents.forget(stream, dead)


def _this_process_alone(rows: Tensor) -> Tensor:
    return rows
