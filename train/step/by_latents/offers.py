"""Latents that owners offer to the homes of rows, and those that the homes take.

The k latents of a row with the largest scores lie among the k that score best with each owner. So
every owner offers those, and the home sees a table of products like that of one process, in which
latents that nobody offered are minus infinity: whatever selects from it finds the same latents.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparc.common.workers import Workers
from sparc.train.kernels.interface import Kernels
from sparc.train.step.by_latents.peers import Peers, by_home, to_homes, to_owners
from sparc.train.step.rows import join_streams, share_rows

Streams = tuple[int, ...]
"""Positions of the streams whose logits are summed to scores."""


class Products(NamedTuple):
    """Logits of the latents that a process owns, of rows of all homes.

    Attributes:
        products: By stream, as `AllLogits.all_products`, (rows, own latents).
        biases: By stream, (own latents,).
    """

    products: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def leading(self, rows: int, homes: int) -> "Products":
        """Those of the first rows of each home."""
        parts = (by_home(x, homes)[:, :rows].flatten(0, 1) for x in self.products)
        return Products(tuple(parts), self.biases)


class Offers(NamedTuple):
    """What an owner offers, by rows, and what homes are offered.

    Attributes:
        indices: Own latents, (all rows, sets, width) int64; a set is of one sum of streams.
        at_home: Latents of the whole dictionary, (rows, sets, processes * width) int64.
    """

    indices: Tensor
    at_home: Tensor


def offer(
    peers: Peers,
    own: Products,
    sums: Sequence[Streams],
    width: int,
    table: Sequence[Tensor],
    kernels: Kernels,
    workers: Workers,
) -> Offers:
    """Offer the latents with the largest scores, and enter what is offered in the home's table.

    Args:
        peers: The processes.
        own: The logits of all rows.
        sums: The sums of streams that rows select by: all with equally many streams.
        width: Latents to offer, at most all.
        table: By stream, products at home, (rows, all latents): changed in place.
        kernels: The implementation of the sparse mathematics.
        workers: Threads; each takes some rows.
    """
    latents = len(own.biases[0])

    def of_rows(rows: slice) -> tuple[Tensor, Tensor]:
        indices, products = [], []
        for streams in sums:
            of_sum = [own.products[stream][rows] for stream in streams]
            best, _ = kernels.select(of_sum, [own.biases[stream] for stream in streams], width)
            indices.append(best)
            products.append(torch.stack([x.gather(1, best) for x in of_sum], dim=2))
        return torch.stack(indices, dim=1), torch.stack(products, dim=1)

    pieces = share_rows(own.products[0], kernels, workers)
    indices, products = join_streams(workers.map(of_rows, pieces))
    number = (indices + peers.rank * latents).to(torch.int32)
    at_home = to_homes(peers, number.transpose(1, 2)).transpose(1, 2).long()
    offered = to_homes(peers, products.transpose(1, 2)).transpose(1, 2)
    for place, streams in enumerate(sums):
        for position, stream in enumerate(streams):
            # Rows that were offered nothing come after those that were.
            rows = table[stream][: len(at_home)]
            rows.scatter_(1, at_home[:, place], offered[:, place, :, position])
    return Offers(indices, at_home)


class Answer(NamedTuple):
    """What a home has to say about latents that its rows were offered.

    Attributes:
        place: The set of the offers.
        latents: Of the whole dictionary, (rows, n) int64, all different.
        said: About each of them, (rows, n).
    """

    place: int
    latents: Tensor
    said: Tensor


def answer(peers: Peers, offers: Offers, latents: int, answers: Sequence[Answer]) -> Tensor:
    """Tell owners something about latents that they offered.

    Args:
        peers: The processes.
        offers: Of all rows.
        latents: Size of the whole dictionary.
        answers: Those of this home, of one type; as many in every process.

    Returns:
        By answer, what is said about the offers of its set, (all rows, answers, width); zero where
        nothing is.
    """
    said = []
    for place, indices, what in answers:
        about = torch.zeros(len(indices), latents, dtype=what.dtype, device=what.device)
        about.scatter_(1, indices, what)
        said.append(about.gather(1, offers.at_home[:, place]))
    return to_owners(peers, torch.stack(said, dim=2)).transpose(1, 2)


def report(
    peers: Peers, offers: Offers, place: int, latents: int, known: Tensor, wanted: Tensor
) -> Tensor:
    """What owners know about their offers, of the latents that homes ask for.

    Args:
        peers: The processes.
        offers: Of all rows.
        place: The set of the offers.
        latents: Size of the whole dictionary.
        known: About the own offers of the set, (all rows, width).
        wanted: Latents of the home's rows that were offered, (rows, n) int64.

    Returns:
        About those, (rows, n).
    """
    at_home = to_homes(peers, known)
    table = at_home.new_zeros(len(at_home), latents)
    return table.scatter_(1, offers.at_home[:, place], at_home).gather(1, wanted)
