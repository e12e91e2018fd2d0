"""Checkpoints of saev (github.com/OSU-NLP-Group/saev): a line of JSON, then a `state_dict`.

From schema 2 to 5, z = activation(x W_enc + b_enc) and x' = z W_dec + b_dec. Files without a
schema, as saev 0.1.0 wrote them, have a ReLU of (x - b_dec) W_enc + b_enc. Schema 1 has two forms,
which do not always say what they are.

A difference remains: saev's TopK keeps the k largest logits even where they are negative, and here
they are zero then. Whatever saev did to its activations before training (a mean, a norm) stands
with these, not in the checkpoint.
"""

import io
from collections.abc import Mapping
from typing import Any

from sparc.common.errors import DictionaryError
from sparc.common.parsing import parse_object
from sparc.common.text import reason, shorten
from sparc.train.dictionaries.dictionary import (
    Activation,
    Dictionary,
    Threshold,
    TopK,
    bias_for_uncentred,
    threshold_above,
)
from sparc.train.dictionaries.formats.format import Format
from sparc.train.dictionaries.formats.given import Given, Tensors, state_dict

FILE = "sae.pt"
_HEADER = 1 << 16
"""Bytes of the longest first line."""
_SCHEMAS = (2, 3, 4, 5)
_THRESHOLD = "activation.threshold"


class Saev(Format):
    """saev: ReLU, TopK and BatchTopK."""

    def recognizes(self, given: Given) -> bool:
        """By its first line."""
        header = _header(given)
        return "schema" in header or "exp_factor" in header

    def read(self, given: Given, k: int) -> Dictionary:
        """Read what `saev.nn.load` reads."""
        del k
        header, tensors = _header(given), _tensors(given)
        schema = header.get("schema")
        if schema is not None and schema not in _SCHEMAS:
            raise DictionaryError(
                f"{given}: its schema is {shorten(repr(schema), 60)}, which is not read here "
                f"(those are {', '.join(map(str, _SCHEMAS))}): load it with saev and write it "
                "again with `saev.nn.dump`"
            )
        decoder = tensors.take("W_dec", None, None)
        latents, dim = decoder.shape
        encoder = tensors.take("W_enc", dim, latents).T.contiguous()
        encoder_bias, bias = tensors.take("b_enc", latents), tensors.take("b_dec", dim)
        if schema is not None:
            encoder_bias = bias_for_uncentred(encoder, encoder_bias, bias)
        activation = Threshold(0.0) if schema is None else _activation(header, tensors, given)
        tensors.done()
        return Dictionary(
            encoder=encoder,
            encoder_bias=encoder_bias,
            decoder=decoder,
            bias=bias,
            activation=activation,
            normalize="none",
        )


def _activation(header: Mapping[str, Any], tensors: Tensors, given: Given) -> Activation:
    try:
        about = header["cfg"]["activation"]
        name, options = about["cls"], about["params"]
        if name == "Relu":
            return Threshold(0.0)
        if name in ("TopK", "BatchTopK"):
            k = int(options["top_k"])
            if name == "BatchTopK" and _THRESHOLD in tensors:
                return threshold_above(float(tensors.take(_THRESHOLD)), k=k)
            return TopK(k)  # before there was a threshold, BatchTopK was this
    except (KeyError, TypeError, ValueError) as error:
        raise DictionaryError(f"{given}: its first line does not say the activation") from error
    raise DictionaryError(
        f"{given}: its activation is {shorten(repr(name), 60)}, and SPARC selects by TopK or a "
        "threshold"
    )


def _header(given: Given) -> dict[str, Any]:
    """The first line."""
    path = given.file(FILE)
    try:
        with path.open("rb") as file:
            line = file.readline(_HEADER)
        if not line.startswith(b"{"):
            raise ValueError("it does not begin with a line of JSON")
        return parse_object(line)
    except (OSError, ValueError) as error:
        raise DictionaryError(f"{path} is no checkpoint of saev: {reason(error)}") from error


def _tensors(given: Given) -> Tensors:
    """What follows."""
    path = given.file(FILE)
    with path.open("rb") as file:
        file.readline(_HEADER)
        return Tensors(state_dict(io.BytesIO(file.read()), path), path)
