"""Distillation: a stream's own logits learn which latents the streams select jointly."""

import torch
from torch import Tensor

from sparc.train.reference import Forward
from sparc.train.step.row_terms import FurtherLogits
from sparc.train.step.terms.term import Contribution, SparseTerm, StreamRows

TEMPERATURE = 0.05


class Distill(SparseTerm):
    """distill_s = - mean over T of log softmax_U(h_s / tau), for each row.

    T are the latents that the row's streams select jointly, a constant; U is T and the k latents of
    the stream's own TopK. It needs no decoder. 0 where streams do not select jointly, as in a row
    that has one stream.
    """

    needs_own = True
    reads_offers_alone = True

    def dense(self, forward: Forward) -> Tensor:
        """The formula, by stream."""
        shared, *others = forward.selected.values()
        if not others or any(not torch.equal(shared, other) for other in others):
            return torch.stack([h.new_zeros(()) for h in forward.logits.values()])
        values, several = [], torch.stack(list(forward.has.values())).sum(0) > 1
        for s, h in forward.logits.items():
            union = (shared + forward.own[s]) > 0
            log_p = (h / TEMPERATURE).masked_fill(~union, -torch.inf).log_softmax(1)
            mean = torch.where(shared > 0, log_p, 0).sum(1) / shared.sum(1).clamp(min=1)
            values.append(-(mean * forward.has[s] * several).mean())
        return torch.stack(values)

    def sparse(self, rows: StreamRows) -> Contribution:
        """Losses, and derivatives by the logits of T and of the stream's own latents."""
        selected, stream = rows.selected, rows.stream
        if selected.own is None:
            return Contribution(selected.values.new_zeros(len(selected.values)))
        shared, own = selected.indices[:, 0], selected.own[:, stream]
        kept = torch.ones_like(shared, dtype=torch.bool)
        if selected.kept is not None:
            kept = selected.kept[:, 0]
        if selected.several is not None:
            kept = kept & selected.several.unsqueeze(1)
        latents = rows.model.config.latents
        in_shared = kept.new_zeros(len(shared), latents).scatter_(1, shared, kept)
        only_own = ~in_shared.gather(1, own)
        union, counts = torch.cat((shared, own), dim=1), torch.cat((kept, only_own), dim=1)
        logits = selected.logits.at(stream, union)
        log_p = (logits / TEMPERATURE).masked_fill(~counts, -torch.inf).log_softmax(1)
        size = kept.sum(1, keepdim=True)
        target = kept.to(log_p.dtype) / size.clamp(min=1)
        width = shared.shape[1]
        losses = -torch.where(kept, log_p[:, :width] * target, 0).sum(1)
        gradients = log_p.exp() * (size > 0)
        gradients[:, :width] -= target
        gradients *= rows.weight / TEMPERATURE
        return Contribution(
            losses,
            logit_gradients=gradients[:, :width],
            further=FurtherLogits(own, gradients[:, width:]),
        )
