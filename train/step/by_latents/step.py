"""A step of several processes, each of which owns some of the latents: what it computes.

Every process is the home of its part of the batch. Owners multiply all rows with their encoders and
offer latents (`offers`), homes select as one process does, owners decode their part of the codes
(`codes`), homes add the parts up and compare, owners differentiate by what is theirs alone. So the
gradient and the update of a latent are made by one process, and nothing is computed twice; what is
exchanged grows with the rows and not with the latents (train/PARALLEL.md).
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.model.network import Sparc
from sparc.train.step.by_latents.codes import OwnCodes, PackedRows
from sparc.train.step.by_latents.dead import SharedDead
from sparc.train.step.by_latents.offers import Answer, Offers, answer
from sparc.train.step.by_latents.peers import Peers, sum_at_homes, sum_everywhere
from sparc.train.step.by_latents.selecting import SharedBatch
from sparc.train.step.deadness import Candidates
from sparc.train.step.gradients import StreamGradients, stream_gradients
from sparc.train.step.objective import Objective, RowLosses
from sparc.train.step.reconstruct import (
    TargetTerms,
    codes_for,
    denominators,
    of_all_pairs,
    residual_scales,
)
from sparc.train.step.row_terms import FurtherLogits, GlobalTerms
from sparc.train.step.terms.term import Contribution


class SharedStep:
    """The mathematics of a step, with latents shared by processes.

    Args:
        own: The latents of this process, as a model.
        home: The model as homes need it: all of it but the encoders and decoders. Its pre-biases
            and thresholds are those of `own`; its latent biases are gathered here, every step.
        peers: The processes.
        objective: The loss, of `home`.
        kernels: The implementation of the sparse mathematics.
        workers: Threads.
        frozen: Streams whose weights stay.
        without_dead: Whether AuxK counts where no latent is dead, too.
    """

    def __init__(
        self,
        own: Sparc,
        home: Sparc,
        peers: Peers,
        objective: Objective,
        kernels: Kernels,
        workers: Workers,
        *,
        frozen: Collection[str],
        without_dead: bool,
    ) -> None:
        self._own = own
        self._home = home
        self._peers = peers
        self._objective = objective
        self._kernels = kernels
        self._workers = workers
        self._frozen = frozen
        self._without_dead = without_dead

    def _answer(self, offers: Offers, answers: Sequence[Answer]) -> Tensor:
        return answer(self._peers, offers, self._home.config.latents, answers)

    def gradients(
        self, batch: SharedBatch, candidates: Sequence[Candidates | None]
    ) -> tuple[RowLosses, dict[str, StreamGradients]]:
        """The losses of the home's rows, and the gradients of own latents of the whole batch.

        Args:
            batch: The batch.
            candidates: By stream, the own latents that AuxK may select; None in all processes
                where AuxK has nothing to do.
        """
        selected = batch.selected
        packed = self._packed(batch.codes)
        dead = self._dead(batch, candidates)
        targets, contributions = [], []
        for target, of_target in enumerate(dead):
            compared = self._compare(batch, packed, target)
            targets.append(compared)
            contributions.append(
                self._objective.contributions(selected, target, compared, of_target)
            )
        errors = torch.stack([target.square_errors for target in targets], dim=1)
        losses = RowLosses(errors, self._objective.losses(contributions))
        terms = self._terms(batch, packed, targets, contributions)
        gradients = stream_gradients(
            self._own,
            terms,
            self._kernels,
            self._workers,
            frozen=self._frozen,
            over_latents=lambda values: sum_everywhere(self._peers, values),
        )
        return losses, gradients

    def _packed(self, codes: OwnCodes) -> list[PackedRows]:
        """By target, the latents that it decodes."""

        def of(target: int) -> PackedRows:
            indices, _ = codes_for(codes.indices, codes.values, target, cross=self._objective.cross)
            return PackedRows(indices, self._own.config.latents, self._kernels, self._workers)

        streams = len(self._own.config.names)
        if self._objective.cross or codes.indices.shape[1] == 1:
            return [of(0)] * streams  # all decode the same latents
        return [of(target) for target in range(streams)]

    def _dead(
        self, batch: SharedBatch, candidates: Sequence[Candidates | None]
    ) -> list[SharedDead | None]:
        """The dead latents of all processes, by stream."""
        if all(candidate is None for candidate in candidates):
            return [None] * len(candidates)
        counts = [0 if own is None else len(own.latents) for own in candidates]
        here = torch.tensor(counts, device=batch.read[0].device)
        sizes: list[int] = sum_everywhere(self._peers, here).tolist()
        return [
            None
            if own is None or not (size or self._without_dead)
            else SharedDead(self._peers, own, size, products, self._kernels)
            for own, size, products in zip(candidates, sizes, batch.products.products, strict=True)
        ]

    def _compare(
        self, batch: SharedBatch, packed: Sequence[PackedRows], target: int
    ) -> TargetTerms:
        """The reconstructions of a target, of the home's rows; owners differentiate them later."""
        selected, objective, cross = batch.selected, self._objective, self._objective.cross
        decoder = self._own.decoder[self._own.config.names[target]]
        _, values = codes_for(batch.codes.indices, batch.codes.values, target, cross=cross)
        partial = packed[target].decode(values, decoder)
        partial = partial.view(len(batch.codes.values), -1, partial.shape[2])
        errors = sum_at_homes(self._peers, partial).sub_(selected.centred[target].unsqueeze(1))
        square_errors = torch.linalg.vector_norm(errors, dim=2).square_()
        by = denominators(selected, target, objective.variances)
        scales = residual_scales(selected, target, objective.pair_weights, by, cross=cross)
        residuals = errors.mul_(scales.unsqueeze(2))
        every_pair = of_all_pairs(square_errors, target, selected.values.shape[1])
        return TargetTerms(every_pair, scales, residuals, products=errors.new_empty(0))

    def _terms(
        self,
        batch: SharedBatch,
        packed: Sequence[PackedRows],
        targets: Sequence[TargetTerms],
        contributions: Sequence[Mapping[str, Contribution]],
    ) -> GlobalTerms:
        """What all rows contribute to the gradients of own latents.

        Args:
            batch: The batch.
            packed: By target, the own latents that it decodes.
            targets: By target, the reconstructions of the home's rows.
            contributions: By stream, what the sparse terms contribute for the home's rows.
        """
        codes, cross = batch.codes, self._objective.cross
        rows, _, width = codes.values.shape
        gradients = torch.zeros_like(codes.values)
        residuals, parallels = [], []
        for target, name in enumerate(self._own.config.names):
            sources = slice(None) if cross else slice(target, target + 1)
            every = self._peers.gather(targets[target].residuals)
            _, values = codes_for(codes.indices, codes.values, target, cross=cross)
            vectors = every.view(*values.shape[:2], every.shape[2])
            products = packed[target].value_gradients(vectors, self._own.decoder[name])
            products = products.view(rows, -1, width)
            gradients[:, sources] += products
            residuals.append(every)
            parallels.append(products * codes.values[:, sources])
        by_value = self._of_codes(batch, contributions, lambda term: term.value_gradients)
        if by_value is not None:
            gradients += by_value
        gradients.mul_(codes.values > 0)
        by_logit = self._of_codes(batch, contributions, lambda term: term.logit_gradients)
        if by_logit is not None:
            gradients += by_logit
        return GlobalTerms(
            codes.indices,
            codes.values,
            batch.read,
            gradients,
            tuple(residuals),
            tuple(parallels),
            tuple(
                tuple(term.auxiliary for term in terms.values() if term.auxiliary is not None)
                for terms in contributions
            ),
            self._further(batch, contributions),
        )

    def _of_codes(
        self,
        batch: SharedBatch,
        contributions: Sequence[Mapping[str, Contribution]],
        derivative: Callable[[Contribution], Tensor | None],
    ) -> Tensor | None:
        """Derivatives that homes know, by the logits of the codes' own latents of all rows.

        Args:
            batch: The batch.
            contributions: By stream, what the sparse terms contribute.
            derivative: Of a contribution, (rows, k) or None: None for the same ones everywhere.

        Returns:
            (all rows, streams, width); None for zero.
        """
        indices = batch.selected.indices
        answers = []
        for stream, terms in enumerate(contributions):
            place = stream if indices.shape[1] > 1 else 0
            total = torch.zeros_like(batch.selected.values[:, stream])
            known = [x for term in terms.values() if (x := derivative(term)) is not None]
            for of_term in known:
                total += of_term
            answers.append((bool(known), Answer(place, indices[:, place], total)))
        if not any(known for known, _ in answers):
            return None
        said = self._answer(batch.offers, [about for _, about in answers])
        slots = batch.codes.slots.expand(-1, len(contributions), -1)
        used = batch.codes.used.expand_as(slots)
        return said.gather(2, slots).where(used, 0)

    def _further(
        self, batch: SharedBatch, contributions: Sequence[Mapping[str, Contribution]]
    ) -> tuple[tuple[FurtherLogits, ...], ...]:
        """Derivatives by logits of the streams' own TopK, by stream, as owners know them."""
        answers: list[tuple[int, Answer]] = [
            (stream, Answer(stream, term.further.indices, term.further.gradients))
            for stream, terms in enumerate(contributions)
            for term in terms.values()
            if term.further is not None
        ]
        further: list[list[FurtherLogits]] = [[] for _ in contributions]
        if answers:
            assert batch.own is not None
            assert batch.own_offers is not None
            said = self._answer(batch.own_offers, [about for _, about in answers])
            for (stream, _), of_offers in zip(answers, said.unbind(1), strict=True):
                gradients = of_offers.gather(1, batch.own.slots[:, stream])
                used = batch.own.used[:, stream]
                further[stream].append(
                    FurtherLogits(batch.own.indices[:, stream], gradients.where(used, 0))
                )
        return tuple(tuple(of_stream) for of_stream in further)
