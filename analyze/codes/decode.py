"""From stored codes back to features, through the decoders of a model."""

import numpy as np
import numpy.typing as npt
import torch

from sparc.analyze.codes.code_rows import CodeRows
from sparc.train.model.codes import Codes
from sparc.train.model.network import Sparc


def to_codes(codes: CodeRows, stream: str, device: torch.device, latents: int) -> Codes:
    """A stream's codes as the model takes them: indices (n, k) int64, values (n, k) float32."""
    return Codes(
        torch.from_numpy(codes.indices[stream].astype(np.int64)).to(device),
        torch.from_numpy(np.ascontiguousarray(codes.values[stream])).to(device),
        latents,
    )


@torch.inference_mode()
def decode(model: Sparc, codes: CodeRows, source: str, target: str) -> npt.NDArray[np.float32]:
    """Reconstruct the target's normalized features from the source's codes, (n, dim)."""
    device = next(model.parameters()).device
    features = model.decode(to_codes(codes, source, device, model.config.latents), target)
    result: npt.NDArray[np.float32] = features.float().cpu().numpy()
    return result
