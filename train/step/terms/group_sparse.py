"""Group sparsity over streams: latents are used by all streams of a row, or by none."""

import torch
from torch import Tensor

from sparc.train.reference import Forward
from sparc.train.step.terms.term import Contribution, SparseTerm, StreamRows


class GroupSparse(SparseTerm):
    """group_sparse = sum over latents l of sqrt(sum_s z_sl^2), for each row.

    The norm over (latents, streams) known as L2,1: for the same values it is smaller if streams
    share their latents. Where they select jointly, they do, and it only makes values smaller: it
    needs batches in which they do not (`--independent`, or `--selection local`).

    Source: arXiv 2601.20028, for pairs of image and text. Its random masks are not part of it.
    """

    reads_offers_alone = True

    def dense(self, forward: Forward) -> Tensor:
        """The formula: the mean over rows, a scalar."""
        squares = torch.stack(list(forward.codes.values())).square().sum(0)
        norms = torch.where(squares > 0, squares, 1).sqrt()
        return torch.where(squares > 0, norms, 0).sum(1).mean()

    def sparse(self, rows: StreamRows) -> Contribution:
        """A stream's share of each norm n_l, z_sl^2 / n_l, and the derivative z_sl / n_l."""
        indices, values = rows.selected.indices, rows.selected.values
        own = values[:, rows.stream]
        streams = values.shape[1]
        if indices.shape[1] == 1:
            norms = values.square().sum(1).sqrt()
        else:
            shape = len(values), rows.model.config.latents
            squares = values.new_zeros(shape)
            squares.scatter_add_(1, indices.flatten(1), values.square().flatten(1))
            norms = squares.gather(1, indices[:, rows.stream]).sqrt()
        share = torch.where(own > 0, own / norms, 0)
        # The mean over streams is taken of what a term returns; this is a sum over them.
        return Contribution((own * share).sum(1) * streams, share * (rows.weight * streams))
