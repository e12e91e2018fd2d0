"""Reading folders of SAELens: which of its architectures and normalizations SPARC has."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

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
    with_unit_rows,
)
from sparc.train.dictionaries.formats.given import Given, Tensors

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

_WITHOUT_EFFECT = ("scaling_factor",)
"""A tensor of old versions; where it has an effect, `finetuning_scaling_factor` says so."""


def read_saelens(given: Given) -> Dictionary:
    """Read a folder of SAELens.

    Raises:
        DictionaryError: It is none, or SPARC has nothing like it.
    """
    config, tensors = given.document(CONFIG), given.tensors(WEIGHTS)
    where = given.folder / CONFIG
    decoder = tensors.take("W_dec", None, None)
    latents, dim = decoder.shape
    activation = _activation(config, tensors, latents, where)
    encoder = tensors.take("W_enc", dim, latents).T.contiguous()
    encoder_bias, bias = tensors.take("b_enc", latents), tensors.take("b_dec", dim)
    tensors.done(without=_WITHOUT_EFFECT)
    if config.get("finetuning_scaling_factor"):
        _refuse(where, "finetuning_scaling_factor scales codes after they were selected")
    if not config.get("apply_b_dec_to_input", True):
        encoder_bias = bias_for_uncentred(encoder, encoder_bias, bias)
    dictionary = Dictionary(
        encoder=encoder,
        encoder_bias=encoder_bias,
        decoder=decoder,
        bias=bias,
        activation=activation,
        normalize="none",
    )
    if config.get("rescale_acts_by_decoder_norm", False):
        dictionary = with_unit_decoder(dictionary)
    return _normalized(dictionary, config, where)


def _activation(
    config: Mapping[str, Any], tensors: Tensors, latents: int, where: object
) -> Activation:
    architecture = config.get("architecture", "standard")
    # Before version 6, a TopK autoencoder was a standard one with another activation.
    name = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    former_k = _table(config, "activation_fn_kwargs").get("k")
    k = config.get("k", former_k) or former_k
    if architecture == "topk" or (architecture == "standard" and name == "topk"):
        if type(k) is not int or not 1 <= k <= latents:
            _refuse(where, f"k is {_shown(k)}, not a number of its {latents} latents")
        return TopK(k)
    if architecture == "jumprelu":
        threshold = tensors.take("threshold", latents)
        _require_one(threshold, where)
        return _with_recorded_size(threshold_above(float(threshold[0])), config)
    if architecture == "standard" and name == "relu":
        return Threshold(0.0)
    what = architecture if architecture != "standard" else f"standard with activation {name}"
    advice = (
        "; save its inference model, `sae.save_inference_model(folder)`, which is read"
        if "batchtopk" in str(architecture)
        else ""
    )
    return _refuse(
        where,
        f"the architecture is {shorten(str(what), 60)}, and SPARC selects by TopK or a threshold"
        f"{advice}",
    )


def _require_one(threshold: Tensor, where: object) -> None:
    kept = threshold.relu()
    if bool((kept != kept[0]).any()):
        _refuse(
            where,
            f"its latents have thresholds of their own, from {float(kept.min()):g} to "
            f"{float(kept.max()):g} (JumpReLU), and SPARC has one threshold for a stream",
        )


def _with_recorded_size(activation: Threshold, config: Mapping[str, Any]) -> Threshold:
    """With what the metadata say of a row's latents: of SPARC's threshold, or of BatchTopK."""
    ours = _table(_table(_table(config, "metadata"), "sparc"), "activation")
    trained = _table(_table(config, "metadata"), "training_architecture_details")
    k, most = ours.get("k", trained.get("k")), ours.get("most")
    return Threshold(
        activation.least,
        k=math.ceil(k) if type(k) in (int, float) and k > 0 else None,
        most=most if type(most) is int else None,
    )


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of a document; an empty one where there is none."""
    table = document.get(name)
    return table if isinstance(table, Mapping) else {}


def _normalized(dictionary: Dictionary, config: Mapping[str, Any], where: object) -> Dictionary:
    how = str(config.get("normalize_activations") or "none")
    if how == "none":
        return dictionary
    if how == "constant_norm_rescale":
        return with_unit_rows(dictionary)
    folded = {
        "True": "fold_activation_norm_scaling_factor",
        "expected_average_only_in": "fold_activation_norm_scaling_factor",
        "covariance_whitening": "fold_activation_whitening",
    }
    advice = (
        f": fold it into the weights with `sae.{folded[how]}(…)` and save it again"
        if how in folded
        else ""
    )
    return _refuse(
        where, f"normalize_activations is {shorten(how, 60)}, which SPARC does not do{advice}"
    )


def _shown(value: object) -> str:
    return shorten(repr(value), 60)


def _refuse(where: object, why: str) -> NoReturn:
    raise DictionaryError(f"{where}: {why}")
