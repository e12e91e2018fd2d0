"""From a stream of a SPARC model to a dictionary on its own."""

from sparc.common.errors import RunError
from sparc.train.dictionaries.dictionary import Activation, Dictionary, Threshold, TopK
from sparc.train.model.network import Sparc
from sparc.train.model.selectors.batch_topk import BatchTopK


def dictionary_of(model: Sparc, stream: str) -> Dictionary:
    """A stream's encoder and decoder, whose codes are the independent ones of the model.

    Args:
        model: The model; the dictionary shares its memory.
        stream: One of its streams.

    Raises:
        SparcError: The model has no such stream.
        RunError: It selects latents in a way that no dictionary on its own can.
    """
    model.check_stream(stream)
    return Dictionary(
        encoder=model.encoder[stream].detach(),
        encoder_bias=model.latent_bias[stream].detach(),
        decoder=model.decoder[stream].detach(),
        bias=model.pre_bias[stream].detach(),
        activation=_activation(model, stream),
        normalize=model.config.normalize,
    )


def _activation(model: Sparc, stream: str) -> Activation:
    """What the model's selector does where the stream selects by its own logits."""
    config, threshold = model.config, model.threshold([stream])
    if not model.selector.leaves_out:
        return TopK(config.width)
    if type(model.selector).keep is BatchTopK.keep:
        if threshold is None:  # none was learned: the k largest of every row
            return TopK(config.k)
        return Threshold(float(threshold), k=config.k, most=config.width)
    raise RunError(
        f"selection {config.selection} leaves latents out by a rule of its own, which no format of "
        "dictionaries can say: only TopK and BatchTopK models can be exported"
    )
