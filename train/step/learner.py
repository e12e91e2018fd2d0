"""One training step: from a batch of raw features to changed weights and the figures of the step.

The mathematics is `select`, `reconstruct` and `auxk` (forward and derivatives), `gradients` (sums
over rows) and `update` (Adam); this module puts them in order. It must not know where batches come
from, when to log or how processes find each other.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

import torch
from torch import Tensor

from sparc.common.errors import ConfigError, RunError
from sparc.common.workers import Workers
from sparc.train import kernels as kernel_choice
from sparc.train.config import Kernels, Recipe, TrainConfig
from sparc.train.kernels.interface import gradient_rows
from sparc.train.model.network import Sparc
from sparc.train.step.auxk import AuxKLatents, AuxKTerms, auxk_terms, join_auxk
from sparc.train.step.deadness import DeadLatents
from sparc.train.step.gradients import stream_gradients
from sparc.train.step.graph import StepGraphs
from sparc.train.step.recipes import normalize_decoders, reinitialize
from sparc.train.step.reconstruct import (
    TargetTerms,
    compare,
    join_targets,
    pair_weights,
    square_errors,
)
from sparc.train.step.row_terms import Gather, RowTerms, gather_terms, row_terms
from sparc.train.step.rows import join_rows, share_rows
from sparc.train.step.select import Precision, Selected, select
from sparc.train.step.sums import Losses, StepSums, step_sums
from sparc.train.step.update import Optimizer

Result = TypeVar("Result")

GRAPHED_LOGITS = 1 << 25
"""Most logits of a stream in a batch whose step is recorded as a CUDA graph. The host keeps up with
larger ones, whose intermediate results would take memory twice."""
LOOK_EVERY = 64
"""Steps with AuxK after which a GPU is asked again whether any latent is dead."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnerSettings:
    """What a training step depends on, besides the batch and the learning rate.

    Attributes:
        recipe: `default`, or `published` with its quirks.
        cross_weight: Weight of cross-reconstruction; 0 skips it.
        aux_weight: Weight of AuxK.
        auxk: Dead latents that AuxK selects for a row; 0 turns AuxK off.
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


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype


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
        self._optimizer = Optimizer(
            model,
            self.kernels,
            self._workers,
            clip=settings.clip,
            unit_decoders=not published,
        )
        dtype = model.latent_bias[config.names[0]].dtype
        self._weights = pair_weights(len(config.names), settings.cross_weight)
        self._weights = self._weights.to(self._device, dtype)
        self._graphs: dict[bool, StepGraphs] = {}
        self._auxk_until = 0
        if graphs and self._device.type == "cuda" and gather is None:
            self._graphs = {
                auxk: StepGraphs(functools.partial(self._figures, auxk=auxk))
                for auxk in (False, True)
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
        self._optimizer.adam.begin_step(lr)
        if self._graphs and rows * config.latents <= GRAPHED_LOGITS:
            learn = self._graphs[self._needs_auxk(rows)]
            self._dead_latents.pass_by(rows)
            figures = learn({name: batch[name] for name in config.names})
            sums = StepSums.from_flat(figures, [stream.dim for stream in config.streams])
        else:
            sums = self._learn(batch)
        if self.settings.recipe == "published":
            reinitialize(
                self.model,
                self._dead_latents,
                step=self._optimizer.adam.number,
                seed=self.settings.seed,
            )
        return sums

    def _figures(self, batch: Mapping[str, Tensor], *, auxk: bool) -> Tensor:
        return self._learn(batch, auxk=auxk).flat()

    def _learn(self, batch: Mapping[str, Tensor], *, auxk: bool | None = None) -> StepSums:
        """A step but for Adam's beginning and re-initialization.

        Args:
            batch: As for `step`.
            auxk: Whether there is AuxK; None finds out, for which it may wait for the device.
        """
        selected = self._select(batch)
        indices, values = self._gather(selected.indices), self._gather(selected.values)
        settings, selection = self.settings, self.model.config.selection
        if auxk is None:
            auxk = self._needs_auxk(len(indices))
            self._dead_latents.pass_by(len(indices))
        if settings.recipe == "published" and selection == "local":
            # As published: with local selection AuxK takes what was dead before this batch.
            dead = self._dead(auxk=auxk)
            self._dead_latents.count(indices, values)
        else:
            self._dead_latents.count(indices, values)
            dead = self._dead(auxk=auxk)
        errors, terms = self._row_terms(selected, dead)
        alone = max(1, len(selected.values) // 32)
        sums = self._sums(selected, errors, terms.auxk, compare_rows=alone)
        terms = gather_terms(terms._replace(indices=indices, values=values), self._gather)
        divisors = normalize_decoders(self.model) if settings.recipe == "published" else {}
        gradients = stream_gradients(self.model, terms, self.kernels, self._workers)
        self._optimizer.update(gradients, divisors)
        return sums

    @torch.no_grad()
    def measure(self, batch: Mapping[str, Tensor]) -> StepSums:
        """The figures of a batch, all pairs of streams decoded; changes nothing.

        Args:
            batch: As for `step`.
        """
        with self._workers.one_thread_each():
            selected = self._select(batch)
            dead = self._dead(auxk=self._needs_auxk(0))

            def figures(target: int, rows: slice) -> tuple[Tensor, AuxKTerms | None]:
                part = selected.rows(rows)
                if dead[target] is None:
                    return square_errors(self.model, part, target, kernels=self.kernels), None
                terms = self._compare(part, target, cross=True)
                return terms.square_errors, self._auxk_terms(part, target, terms, dead[target])

            found = self._for_each_target(selected, figures)
            errors = [join_rows([errors for errors, _ in parts]) for parts in found]
            auxk = [join_auxk([terms for _, terms in parts]) for parts in found]
            rows = len(selected.values)
            return self._sums(selected, torch.stack(errors, dim=1), auxk, compare_rows=rows)

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
        _, terms = self._row_terms(selected, self._dead(auxk=self._needs_auxk(0)))
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
        state = {"steps": torch.tensor(self._optimizer.adam.number)}
        for name, moments in self._optimizer.adam.moments.items():
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
        self._optimizer.adam.restore(int(state["steps"]))
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
        self, selected: Selected, dead: tuple[AuxKLatents | None, ...]
    ) -> tuple[Tensor, RowTerms]:
        """The squared errors of a batch, (rows, targets, sources), and its row terms."""
        cross = self.settings.cross_weight > 0

        def work_out(target: int, rows: slice) -> tuple[TargetTerms, AuxKTerms | None]:
            part = selected.rows(rows)
            terms = self._compare(part, target, cross=cross)
            return terms, self._auxk_terms(part, target, terms, dead[target])

        found = self._for_each_target(selected, work_out)
        targets = [join_targets([terms for terms, _ in parts]) for parts in found]
        auxk = [join_auxk([terms for _, terms in parts]) for parts in found]
        errors = torch.stack([each.square_errors for each in targets], dim=1)
        return errors, row_terms(selected, targets, auxk)

    def _compare(self, selected: Selected, target: int, *, cross: bool) -> TargetTerms:
        return compare(
            self.model, selected, target, self._weights, cross=cross, kernels=self.kernels
        )

    def _needs_auxk(self, rows: int) -> bool:
        """Whether AuxK may have something to do when so many more rows have passed."""
        settings = self.settings
        if not settings.auxk or not settings.aux_weight:
            return False
        if settings.recipe == "published" or self._optimizer.adam.number < self._auxk_until:
            return True
        if self._dead_latents.none_can_be_dead(after=rows):
            return False
        if self._device.type != "cpu":
            # It asked the device, which need not be asked in every step: AuxK without dead latents
            # takes time but is zero.
            self._auxk_until = self._optimizer.adam.number + LOOK_EVERY
        return True

    def _dead(self, *, auxk: bool) -> tuple[AuxKLatents | None, ...]:
        """By stream, the latents that AuxK selects from; None where there is no AuxK."""
        names, published = self.model.config.names, self.settings.recipe == "published"
        if not auxk:
            return (None,) * len(names)
        found: list[AuxKLatents | None] = []
        for name in names:
            decoder, bias = self.model.decoder[name], self.model.latent_bias[name]
            if self._device.type != "cpu":
                are_dead = self._dead_latents.are_dead(name)
                every = torch.arange(len(decoder), device=self._device)
                biases = bias.masked_fill(~are_dead, -torch.inf)
                # The published recipe counts AuxK where nothing is dead, too.
                found.append(
                    AuxKLatents(every, decoder, biases, None if published else are_dead.any())
                )
                continue
            latents = self._dead_latents.dead(name)
            if not len(latents) and not published:
                found.append(None)
                continue
            found.append(AuxKLatents(latents, decoder.index_select(0, latents), bias[latents]))
        return tuple(found)

    def _auxk_terms(
        self, selected: Selected, target: int, terms: TargetTerms, dead: AuxKLatents | None
    ) -> AuxKTerms | None:
        if dead is None:
            return None
        return auxk_terms(
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
        auxk: Sequence[AuxKTerms | None],
        *,
        compare_rows: int,
    ) -> StepSums:
        return step_sums(
            self.model,
            selected,
            errors,
            auxk,
            pair_weights=self._weights,
            aux_weight=self.settings.aux_weight,
            compare_rows=compare_rows,
            kernels=self.kernels,
        )


def _this_process_alone(rows: Tensor) -> Tensor:
    return rows
