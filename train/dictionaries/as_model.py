"""From a dictionary to a SPARC model of one stream."""

import torch

from sparc.common.errors import DictionaryError, setting
from sparc.train.config import ModelConfig, StreamShape
from sparc.train.dictionaries.dictionary import Dictionary, TopK
from sparc.train.model.network import Sparc


def model_of(dictionary: Dictionary, stream: str, *, k: int = 0, k_max: int = 0) -> Sparc:
    """A model whose codes are the dictionary's, in evaluation mode and frozen.

    TopK becomes selection `local`, a threshold selection `batch`, in which a row has at most
    `k_max` latents. Decoder rows keep their norms.

    Args:
        dictionary: The dictionary.
        stream: What the model's stream is called.
        k: Latents that a row uses, where the dictionary does not know it; 0: not given.
        k_max: With a threshold, the most that it uses; 0: what the dictionary knows, or 4 k.

    Raises:
        DictionaryError: A number is missing, or contradicts the dictionary's.
        ConfigError: A number is out of its bounds.
    """
    activation = dictionary.activation
    if k and activation.k is not None and k != activation.k:
        raise DictionaryError(
            f"the dictionary's own k is {activation.k}, not {k}: leave {setting('--k')} out"
        )
    k = activation.k or k
    most: int | None = None
    if isinstance(activation, TopK):
        if k_max:
            raise DictionaryError(
                f"a row of a TopK dictionary uses k latents: leave {setting('--k-max')} out"
            )
    elif not k:
        which = "above a threshold" if activation.least else "positive"
        raise DictionaryError(
            f"a row uses all latents whose logits are {which}, and a code of SPARC has a fixed "
            f"width: say with {setting('--k')} how many they are on average (and with "
            f"{setting('--k-max')} how many at most, 4 k by default)"
        )
    else:
        most = k_max or activation.most
    config = ModelConfig(
        streams=(StreamShape(stream, dictionary.dim),),
        latents=dictionary.latents,
        k=k,
        selection="local" if isinstance(activation, TopK) else "batch",
        normalize=dictionary.normalize,
        k_max=most,
    )
    model = Sparc(config)
    with torch.no_grad():
        model.encoder[stream].copy_(dictionary.encoder)
        model.latent_bias[stream].copy_(dictionary.encoder_bias)
        model.decoder[stream].copy_(dictionary.decoder)
        model.pre_bias[stream].copy_(dictionary.bias)
        if model.thresholds is not None and not isinstance(activation, TopK):
            model.thresholds.fill_(activation.least)
    return model.eval().requires_grad_(False)
