"""Folders of SAELens 6 (github.com/decoderesearch/SAELens), as its `SAE.load_from_disk` reads them.

Checked with SAELens 6.54.12. There, z = activation((s x - b_dec) W_enc + b_enc) and
x' = (z W_dec + b_dec) / s, where with `normalize_activations` `constant_norm_rescale` s is
sqrt(dim) / |x|, else 1. So a dictionary that scales rows to unit norm is written with the encoder
divided by sqrt(dim), and decoder and bias multiplied by it: its codes are the same, and
reconstructions have the norm of the row. A threshold becomes the architecture `jumprelu`, which
keeps what is greater than a number: it gets the largest float32 below ours.

What is read is `topk`, `standard` (ReLU) and `jumprelu` with one threshold for all latents, which
is also what SAELens makes of BatchTopK.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparc.common.config import to_mapping
from sparc.common.files.folder import Folder
from sparc.common.parsing import parse_object
from sparc.train.dictionaries.dictionary import Dictionary, TopK
from sparc.train.dictionaries.formats.format import About, WritableFormat
from sparc.train.dictionaries.formats.given import Given
from sparc.train.dictionaries.formats.saelens_reading import CONFIG, WEIGHTS, read_saelens
from sparc.train.model.tensors import write_tensors

_OLDEST = "6.0.0"
"""The first version of SAELens with such a `cfg.json`: what it says it was written for."""


class SaeLens(WritableFormat):
    """SAELens: architectures `topk`, `jumprelu` and, read only, `standard`."""

    files = (WEIGHTS, CONFIG)
    load = (
        "from sae_lens import SAE\n\nsae = SAE.load_from_disk(FOLDER)\ncodes = sae.encode(features)"
    )

    def recognizes(self, given: Given) -> bool:
        """By its two files."""
        return given.has(CONFIG) and (given.has(WEIGHTS) or given.path.name == WEIGHTS)

    def read(self, given: Given, k: int) -> Dictionary:
        """Read what `SAE.load_from_disk` reads."""
        del k
        return read_saelens(given)

    def write(self, dictionary: Dictionary, folder: Folder, about: About) -> None:
        """Write float32 weights and their configuration."""
        write_tensors(folder, WEIGHTS, _weights(dictionary))
        content = json.dumps(_config(dictionary, about), indent=2, ensure_ascii=False)
        folder.write(CONFIG, f"{content}\n".encode())

    def written_from(self, folder: Folder) -> str:
        """From the table `sparc` among the metadata."""
        try:
            digest = parse_object(folder.read(CONFIG))["metadata"]["sparc"]["source_sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""
        return digest if isinstance(digest, str) else ""

    def differences(self, dictionary: Dictionary) -> Sequence[str]:
        """A bound on the active latents of a row, where there is one."""
        activation = dictionary.activation
        if isinstance(activation, TopK) or activation.most in (None, dictionary.latents):
            return ()
        return (
            f"At most {activation.most} latents of a row are active in SPARC, the largest. SAELens "
            "knows no such bound: a row in which more of them reach the threshold has them all "
            "there.",
        )

    def remarks(self, dictionary: Dictionary) -> Sequence[str]:
        """How rows are scaled back."""
        if dictionary.normalize == "none":
            return ()
        return (
            "SPARC reconstructs rows of unit norm, SAELens rows of the norm that they came with. "
            "It keeps the norms of the rows that it encoded last: decode what was encoded just "
            "before. A row of zeros has no norm: SPARC refuses it, SAELens gives NaN.",
        )


def _weights(dictionary: Dictionary) -> dict[str, Tensor]:
    scale = math.sqrt(dictionary.dim) if dictionary.normalize == "unit" else 1.0
    weights = {
        "W_enc": dictionary.encoder.T / scale,
        "b_enc": dictionary.encoder_bias,
        "W_dec": dictionary.decoder * scale,
        "b_dec": dictionary.bias * scale,
    }
    if not isinstance(dictionary.activation, TopK):
        least = np.float32(dictionary.activation.least)
        below = float(np.nextafter(least, np.float32(-np.inf)))
        weights["threshold"] = torch.full((dictionary.latents,), below)
    return weights


def _config(dictionary: Dictionary, about: About) -> dict[str, Any]:
    activation = dictionary.activation
    topk = isinstance(activation, TopK)
    specific = (
        {"k": activation.k, "rescale_acts_by_decoder_norm": False}
        if isinstance(activation, TopK)
        else {}
    )
    spec = about.stream.origin.spec if about.stream is not None else None
    return {
        "architecture": "topk" if topk else "jumprelu",
        "d_in": dictionary.dim,
        "d_sae": dictionary.latents,
        **specific,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": (
            "constant_norm_rescale" if dictionary.normalize == "unit" else "none"
        ),
        "reshape_activations": "none",
        "metadata": {
            "sae_lens_version": _OLDEST,
            "sae_lens_training_version": None,
            "model_name": spec,
            "hook_name": about.name,
            "sparc": {
                "version": about.version,
                "source_sha256": about.source_sha256,
                "selection": about.selection,
                "activation": to_mapping(activation),
                "stream": None if about.stream is None else to_mapping(about.stream),
            },
        },
    }
