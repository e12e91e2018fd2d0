"""How rows select latents that processes share: owners offer, homes select, owners learn of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.config import Precision
from sparc.train.kernels.interface import Kernels
from sparc.train.model.codes import Mode
from sparc.train.model.network import Sparc
from sparc.train.step.balance import Use, Uses
from sparc.train.step.by_latents.codes import OwnCodes, PackedRows, pack
from sparc.train.step.by_latents.offers import Answer, Offers, Products, answer, offer, report
from sparc.train.step.by_latents.peers import Peers
from sparc.train.step.deadness import SparseCodes
from sparc.train.step.noise import Inputs
from sparc.train.step.selection.keep import Selection
from sparc.train.step.selection.logits import AllLogits
from sparc.train.step.selection.select import Selected, choose, read_inputs, read_products
from sparc.train.step.sums import rows_to_compare


class SharedBatch(NamedTuple):
    """A batch whose codes are known at home and with the owners.

    Attributes:
        selected: The rows of this home; its logits are minus infinity where nothing was offered.
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


class SharedSelection:
    """How the rows of all homes select.

    Args:
        own: The latents of this process, as a model.
        home: The model as homes need it (`models.home_of`), whose latent biases are gathered here.
        peers: The processes.
        selection: How rows select at home.
        kernels: The implementation of the sparse mathematics.
        workers: Threads.
        precision: Of the products of logits; values of codes are exact.
        needs_own: Whether the streams' own TopK is wanted.
    """

    def __init__(
        self,
        own: Sparc,
        home: Sparc,
        peers: Peers,
        selection: Selection,
        kernels: Kernels,
        workers: Workers,
        *,
        precision: Precision,
        needs_own: bool,
    ) -> None:
        self._own = own
        self._home = home
        self._peers = peers
        self._selection = selection
        self._kernels = kernels
        self._workers = workers
        self._precision: Precision = precision
        self._needs_own = needs_own

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
            read_products(self._own, every_read, present, self._precision, self._workers), biases
        )
        rows, latents = len(read.read[0]), self._home.config.latents
        table = [x.new_full((rows, latents), -torch.inf) for x in logits.products]
        joint, by_stream = self._offer(logits, table, mode)
        # Exact values, in another precision, are computed where the encoders are.
        home_biases = tuple(self._home.latent_bias[name].detach() for name in names)
        offered = AllLogits(tuple(table), home_biases, self._kernels)
        candidates = choose(
            self._home, read, offered, "float32", self._kernels, mode, self._workers
        )
        selected = self._selection.by_thresholds_of_batch(candidates)
        offers = joint if mode == "joint" else by_stream
        assert offers is not None
        codes = self._codes(selected.indices, selected.kept, offers, logits, present)
        if self._precision != "float32":
            codes = self._exact(codes, every_read, biases, present)
            selected = selected._replace(values=self._at_home(codes, offers, selected.indices))
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
        answers = [Answer(place, *chosen) for place, chosen in places]
        taken = answer(self._peers, offers, self._home.config.latents, answers)
        return pack(offers.indices, taken, logits.products, logits.biases, present)

    def _exact(
        self,
        codes: OwnCodes,
        read: Sequence[Tensor],
        biases: Sequence[Tensor],
        present: Tensor | None,
    ) -> OwnCodes:
        """Codes with values of full precision; arguments as of `SharedBatch` and `Products`."""
        latents, values = self._own.config.latents, []
        for stream, name in enumerate(self._own.config.names):
            place = stream if codes.indices.shape[1] > 1 else 0
            rows = PackedRows(codes.indices[:, place], latents, self._kernels, self._workers)
            products = rows.value_gradients(read[stream].unsqueeze(1), self._own.encoder[name])
            counts = codes.used[:, place]
            if present is not None:
                counts = counts & present[:, stream, None]
            logits = products.squeeze(1) + biases[stream][codes.valid[:, place]]
            values.append(logits.relu_().where(counts, 0))
        return codes._replace(values=torch.stack(values, dim=1))

    def _at_home(self, codes: OwnCodes, offers: Offers, indices: Tensor) -> Tensor:
        """The values of the home's rows, (rows, streams, k), of latents (rows, sets, k)."""
        sets, width = offers.indices.shape[1:]
        values = []
        for stream, of_stream in enumerate(codes.values.unbind(1)):
            place = stream if sets > 1 else 0
            known = of_stream.new_zeros(len(of_stream), width)
            known.scatter_(1, codes.slots[:, place], of_stream)
            latents = self._home.config.latents
            values.append(report(self._peers, offers, place, latents, known, indices[:, place]))
        return torch.stack(values, dim=1)
