"""A step of several processes, each of which owns some of the latents: what it computes.

Every process is the home of its part of the batch. Owners multiply all rows with their encoders and
offer latents (`offers`), homes select as one process does, owners decode their part of the codes
(`codes`), homes add the parts up and compare, owners differentiate by what is theirs alone. So the
gradient and the update of a latent are made by one process, and nothing is computed twice; what is
exchanged grows with the rows and not with the latents (train/PARALLEL.md).
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.step.balance import Use, Uses
from sparc.train.step.by_latents.codes import OwnCodes, PackedRows, pack
from sparc.train.step.by_latents.dead import SharedDead
from sparc.train.step.by_latents.offers import Answer, Offers, Products, answer, offer
from sparc.train.step.by_latents.peers import Peers, sum_at_homes, sum_everywhere
from sparc.train.step.deadness import Candidates, SparseCodes
from sparc.train.step.gradients import StreamGradients, stream_gradients
from sparc.train.step.keep import Selection
from sparc.train.step.noise import Inputs
from sparc.train.step.objective import Objective, RowLosses
from sparc.train.step.reconstruct import (
    TargetTerms,
    codes_for,
    denominators,
    of_all_pairs,
    residual_scales,
)
from sparc.train.step.row_terms import FurtherLogits, GlobalTerms
from sparc.train.step.select import Selected, choose, read_inputs, read_products
from sparc.train.step.sums import rows_to_compare
from sparc.train.step.terms.term import Contribution


class SharedBatch(NamedTuple):
    """A batch whose codes are known at home and with the owners.

    Attributes:
        selected: The rows of this home; `products` are minus infinity where nothing was offered.
        read: What the encoders multiply, of all rows, by stream, (rows, dim).
        products: Logits of own latents, of all rows.
        present: As `Inputs.present`, of all rows.
        codes: All rows' codes over own latents.
        offers: What the codes were taken from.
        own: Each stream's own TopK, if it was selected, likewise.
        own_offers: What it was taken from.
    """

    selected: Selected
    read: tuple[Tensor, ...]
    products: Products
    present: Tensor | None
    codes: OwnCodes
    offers: Offers
    own: OwnCodes | None
    own_offers: Offers | None

    def counted(self) -> SparseCodes:
        """The codes, as dead latents are counted by."""
        return SparseCodes(self.codes.valid, self.codes.values, self.present)

    def uses(self) -> Uses:
        """The own latents that rows use."""

        def of(codes: OwnCodes) -> list[Use]:
            sets = zip(codes.valid.unbind(1), codes.used.unbind(1), strict=True)
            return [Use(*of_set) for of_set in sets]

        streams, used = len(self.read), of(self.codes)
        own = used * streams if len(used) == 1 else used
        several = None
        if self.present is not None and streams > 1:
            several = self.present.sum(1) > 1
        return Uses(
            used[0] if len(used) == 1 else None,
            own if self.own is None else of(self.own),
            self.present,
            several,
        )

    def counted_own(self) -> SparseCodes | None:
        """The streams' own TopK, likewise."""
        if self.own is None:
            return None
        return SparseCodes(self.own.valid, self.own.values, self.present)


class SharedStep:
    """The mathematics of a step, with latents shared by processes.

    Args:
        own: The latents of this process, as a model.
        home: The model as homes need it: all of it but the encoders and decoders. Its pre-biases
            and thresholds are those of `own`; its latent biases are gathered here, every step.
        peers: The processes.
        objective: The loss, of `home`.
        selection: How rows select at home.
        kernels: The implementation of the sparse mathematics.
        workers: Threads.
        frozen: Streams whose weights stay.
        needs_own: Whether the streams' own TopK is wanted.
        without_dead: Whether AuxK counts where no latent is dead, too.
    """

    def __init__(
        self,
        own: Sparc,
        home: Sparc,
        peers: Peers,
        objective: Objective,
        selection: Selection,
        kernels: Kernels,
        workers: Workers,
        *,
        frozen: Collection[str],
        needs_own: bool,
        without_dead: bool,
    ) -> None:
        self._own = own
        self._home = home
        self._peers = peers
        self._objective = objective
        self._selection = selection
        self._kernels = kernels
        self._workers = workers
        self._frozen = frozen
        self._needs_own = needs_own
        self._without_dead = without_dead

    def select(self, inputs: Inputs, mode: Mode) -> SharedBatch:
        """Select the codes of a batch.

        Args:
            inputs: The rows of this home.
            mode: How the streams select.
        """
        gather, names = self._peers.gather, self._own.config.names
        biases = tuple(self._own.latent_bias[name].detach() for name in names)
        for name, every in zip(names, gather(torch.stack(biases, dim=1)).unbind(1), strict=True):
            self._home.latent_bias[name].copy_(every)
        read = read_inputs(self._home, inputs)
        every_read = tuple(map(gather, read.read))
        present = None if read.present is None else gather(read.present)
        logits = Products(
            read_products(self._own, every_read, present, "float32", self._workers), biases
        )
        rows, latents = len(read.read[0]), self._home.config.latents
        table = [x.new_full((rows, latents), -torch.inf) for x in logits.products]
        joint, by_stream = self._offer(logits, table, mode)
        candidates = choose(
            self._home, read, tuple(table), "float32", self._kernels, mode, self._workers
        )
        selected = self._selection.by_thresholds_of_batch(candidates)
        offers = joint if mode == "joint" else by_stream
        assert offers is not None
        codes = self._codes(selected.indices, selected.kept, offers, logits, present)
        own = None
        if selected.own is not None and by_stream is not None:
            own = self._codes(selected.own, None, by_stream, logits, present)
        return SharedBatch(
            selected, every_read, logits, present, codes, offers, own, by_stream if own else None
        )

    def _offer(
        self, logits: Products, table: Sequence[Tensor], mode: Mode
    ) -> tuple[Offers | None, Offers | None]:
        """What is offered for the sum of all streams, and for each by itself; None for nothing."""
        streams, world = len(table), self._peers.world
        joint, by_stream = [tuple(range(streams))], [(stream,) for stream in range(streams)]
        learns = self._home.selector.learns_thresholds

        def of(products: Products, sums: Sequence[tuple[int, ...]]) -> Offers:
            width = self._own.config.width
            return offer(self._peers, products, sums, width, table, self._kernels, self._workers)

        of_sum = of(logits, joint) if mode == "joint" or learns else None
        if mode == "independent" or learns or self._needs_own:
            return of_sum, of(logits, by_stream)
        if streams > 1:  # a figure compares the joint latents of a few rows with their own
            of(logits.leading(rows_to_compare(len(table[0])), world), by_stream)
        return of_sum, None

    def _codes(
        self,
        indices: Tensor,
        kept: Tensor | None,
        offers: Offers,
        logits: Products,
        present: Tensor | None,
    ) -> OwnCodes:
        """The owner's part of codes that the homes selected, (rows, sets, k)."""
        flags = torch.ones_like(indices, dtype=torch.bool) if kept is None else kept
        places = enumerate(zip(indices.unbind(1), flags.unbind(1), strict=True))
        taken = self._answer(offers, [Answer(place, *chosen) for place, chosen in places])
        return pack(offers.indices, taken, logits.products, logits.biases, present)

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
