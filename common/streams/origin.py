"""What made a stream's features, and the one answer to "is this the same encoder?".

Records name encoders of any library, so nothing here knows one: what a spec of a library may say
is `sparc.extract.encoders`' business.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

from sparc.common.streams.places import same_but_for_place
from sparc.common.text import printable

_DECISIVE = ("weights_sha256", "definition_sha256", "pooling", "input_size", "preprocessing")
"""Fields of an origin that decide, beside its spec, whether features are comparable. Precision and
batch size change the last bits only."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportedFrom:
    """The file that a stream's features were imported from.

    Attributes:
        path: Its absolute path; of several files, that of their folder.
        key: The array, tensor, dataset or column in it; empty where it has but one.
        format: What it was read as: a name of `sparc-extract import --format`.
        bytes: Its length; of several files, all together.
        modified: When it was last written, of several the last of them: seconds since 1970, UTC.
        rows: Rows of the array.
        dtype: Type of its values in the file.
        aligned: How its rows were brought to those of the cache: by `ids`, or as they are, `rows`.
    """

    path: str
    key: str
    format: str
    bytes: int
    modified: int
    rows: int
    dtype: str
    aligned: Literal["ids", "rows"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOrigin:
    """What made a stream's features; features of equal origins may be compared bit for bit.

    Attributes:
        spec: The encoder's spec as text, or `array` for features that SPARC did not extract.
        pooling: How tokens became one vector, in words.
        input_size: Height and width of the encoder's input in pixels, or its context length in
            tokens; empty where it does not apply.
        weights_sha256: Digest of the model's tensors (names, dtypes, shapes and bytes), without
            position embeddings that were resampled to another input size.
        definition_sha256: Digest of what decides, beside the weights, what the model computes: its
            architecture with its activation and, for a text model, its tokenizer; empty in older
            records.
        preprocessing: What was done to an image or caption before the encoder, in words.
        precision: Arithmetic of the encoder: `float32`, `bfloat16 autocast`, or on a GPU `float32
            with TF32 convolutions`.
        batch_size: Images or captions per forward pass; the composition of a batch changes the
            last bits.
        decode_side: Least pixels of the shorter side at which JPEG files were decoded (at 1/8, 1/4
            or 1/2 of their size where that has as many); 0: at full size.
        features_sha256: Digest of features that SPARC did not extract, which nothing else tells
            from others; see `sparc.common.cache.features.features_digest`.
        imported: The file that they were imported from; None where they were not.
    """

    spec: str
    pooling: str = ""
    input_size: tuple[int, ...] = ()
    weights_sha256: str = ""
    definition_sha256: str = ""
    preprocessing: str = ""
    precision: str = "float32"
    batch_size: int = 0
    decode_side: int = dataclasses.field(default=0, metadata={"added": True})
    features_sha256: str = dataclasses.field(default="", metadata={"added": True})
    imported: ImportedFrom | None = dataclasses.field(default=None, metadata={"added": True})

    @property
    def digest(self) -> str:
        """Of the encoder's weights, or of features that were not extracted; empty if unknown."""
        return self.weights_sha256 or self.features_sha256


class EncoderDifference(NamedTuple):
    """The first difference between two encoders.

    Attributes:
        what: The field of a stream's origin.
        first: Its value in the first.
        second: Its value in the second.
    """

    what: str
    first: Any
    second: Any


class _Digest(str):
    """A digest that is shown with the spec of the encoder that it is of."""

    spec: str

    @classmethod
    def of(cls, digest: str, spec: str) -> "_Digest":
        result = cls(digest)
        result.spec = spec
        return result

    def __repr__(self) -> str:
        digest = f"{self[:12]}…" if len(self) > 12 else str(self)
        return f"{printable(self.spec)} ({digest or 'not recorded'})"


def encoder_difference(first: StreamOrigin, second: StreamOrigin) -> EncoderDifference | None:
    """The first difference between two encoders; None if their features may be compared.

    The digest of the weights is not enough: models that compute different things may share the
    same tensors. So the digests of what they compute must agree as well. If one of the two records
    is older than that digest, the specs must agree instead, except for the place of the weights.
    """
    excused = excused_fields(first, second)
    for field in ("spec", *_DECISIVE):
        a, b = getattr(first, field), getattr(second, field)
        if a != b and field not in excused:
            if field.endswith("_sha256"):
                a, b = _Digest.of(a, first.spec), _Digest.of(b, second.spec)
            return EncoderDifference(field, a, b)
    return None


def excused_fields(first: StreamOrigin, second: StreamOrigin) -> frozenset[str]:
    """The fields in which records of one encoder may differ: its spec and its definition.

    With digests of both weights, the specs may differ in the place of the weights; with digests of
    both definitions as well, in anything, since a spec says nothing more. A record may lack the
    digest of the definition, or that of features, because it is older.
    """
    have_definitions = bool(first.definition_sha256 and second.definition_sha256)
    excused = set() if have_definitions else {"definition_sha256"}
    if (first.weights_sha256 and second.weights_sha256) and (
        have_definitions or same_but_for_place(first.spec, second.spec)
    ):
        excused.add("spec")
    if not (first.features_sha256 and second.features_sha256):
        excused.add("features_sha256")
    return frozenset(excused)
