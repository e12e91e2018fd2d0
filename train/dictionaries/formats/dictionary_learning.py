"""Folders of dictionary_learning (github.com/saprmarks/dictionary_learning): ae.pt, config.json.

Classes `AutoEncoderTopK`, `BatchTopKSAE` and `MatryoshkaBatchTopKSAE`, which with `use_threshold`
keep what is greater than a number, and with a ReLU `AutoEncoder` and `AutoEncoderNew`. Only the
configuration tells a TopK from a BatchTopK: their tensors have the same names.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sparc.common.errors import DictionaryError
from sparc.common.text import shorten
from sparc.train.dictionaries.dictionary import (
    Activation,
    Dictionary,
    Threshold,
    TopK,
    bias_for_uncentred,
    threshold_above,
    with_unit_decoder,
)
from sparc.train.dictionaries.formats.format import Format
from sparc.train.dictionaries.formats.given import Given, Tensors

FILE = "ae.pt"
CONFIG = "config.json"


class DictionaryLearning(Format):
    """dictionary_learning: what it calls its dictionaries with one encoder."""

    def recognizes(self, given: Given) -> bool:
        """By its configuration or, without one, by names of tensors."""
        try:
            return bool(_class_of(_trainer(given)))
        except DictionaryError:
            pass
        tensors = given.tensors(FILE)
        return "encoder.weight" in tensors and "decoder.weight" in tensors

    def read(self, given: Given, k: int) -> Dictionary:
        """Read what its `load_dictionary` reads."""
        del k
        tensors, trainer = given.tensors(FILE), _trainer(given)
        name = _class_of(trainer)
        if name not in _READERS:
            raise DictionaryError(
                f"{given}: its dict_class is {shorten(name, 60)!r}, and SPARC has TopK and one "
                f"threshold for all latents: {', '.join(_READERS)}"
            )
        dictionary = _READERS[name](tensors, trainer)
        tensors.done()
        return dictionary


def _trainer(given: Given) -> Mapping[str, Any]:
    """The table `trainer` of the configuration."""
    # Checkpoints lie in a folder below it.
    place = next((p for p in (CONFIG, f"../{CONFIG}") if given.has(p)), None)
    if place is None:
        raise DictionaryError(
            f"{given}: no {CONFIG} lies beside it, and tensors alone do not tell a TopK from a "
            "BatchTopK: put the one there that dictionary_learning wrote with it"
        )
    trainer: Any = given.document(place).get("trainer")
    if not isinstance(trainer, Mapping) or not isinstance(trainer.get("dict_class"), str):
        raise DictionaryError(f"{given.folder / place} has no dict_class in its table trainer")
    return trainer


def _class_of(trainer: Mapping[str, Any]) -> str:
    """What the dictionary is called."""
    return str(trainer["dict_class"])


def _top_k(tensors: Tensors, trainer: Mapping[str, Any]) -> Dictionary:
    if "threshold" in tensors:  # of another way to encode, which is not the default
        tensors.take("threshold")
    return _linear(tensors, "b_dec", TopK(_k(tensors, trainer)))


def _k(tensors: Tensors, trainer: Mapping[str, Any]) -> int:
    """How many latents a row uses; earlier versions say it in the configuration alone."""
    if "k" in tensors:
        return tensors.whole("k")
    k = trainer.get("k")
    if type(k) is not int:
        raise DictionaryError(f"{CONFIG}: k is {shorten(repr(k), 60)}, not a number of latents")
    return k


def _batch_top_k(tensors: Tensors, trainer: Mapping[str, Any]) -> Dictionary:
    return _linear(tensors, "b_dec", _threshold(tensors, trainer))


def _threshold(tensors: Tensors, trainer: Mapping[str, Any]) -> Threshold:
    return threshold_above(float(tensors.take("threshold")), k=_k(tensors, trainer))


def _matryoshka(tensors: Tensors, trainer: Mapping[str, Any]) -> Dictionary:
    tensors.take("group_sizes", None)
    decoder = tensors.take("W_dec", None, None)
    latents, dim = decoder.shape
    return Dictionary(
        encoder=tensors.take("W_enc", dim, latents).T.contiguous(),
        encoder_bias=tensors.take("b_enc", latents),
        decoder=decoder,
        bias=tensors.take("b_dec", dim),
        activation=_threshold(tensors, trainer),
        normalize="none",
    )


def _relu(tensors: Tensors, _trainer: Mapping[str, Any]) -> Dictionary:
    # It is loaded with decoder rows of unit norm, by default.
    return with_unit_decoder(_linear(tensors, "bias", Threshold(0.0)))


def _relu_uncentred(tensors: Tensors, _trainer: Mapping[str, Any]) -> Dictionary:
    return _linear(tensors, "decoder.bias", Threshold(0.0), centred=False)


def _linear(
    tensors: Tensors, bias_name: str, activation: Activation, *, centred: bool = True
) -> Dictionary:
    encoder = tensors.take("encoder.weight", None, None)
    latents, dim = encoder.shape
    bias: Tensor = tensors.take(bias_name, dim)
    encoder_bias = tensors.take("encoder.bias", latents)
    return Dictionary(
        encoder=encoder,
        encoder_bias=encoder_bias if centred else bias_for_uncentred(encoder, encoder_bias, bias),
        decoder=tensors.take("decoder.weight", dim, latents).T.contiguous(),
        bias=bias,
        activation=activation,
        normalize="none",
    )


_READERS: Mapping[str, Callable[[Tensors, Mapping[str, Any]], Dictionary]] = {
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _matryoshka,
    "AutoEncoder": _relu,
    "AutoEncoderNew": _relu_uncentred,
}
