"""What a stream is: its name, the spec of the encoder behind it, and the record of what made it.

A spec is text such as `timm:vit_base_patch14_dinov2?size=224`; this module parses it. It must not
know how an encoder is built: that is `sparc.extract.encoders`.
"""

import dataclasses
import os
import re
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl

from sparc.common.errors import ConfigError
from sparc.common.files.paths import absolute_if_here

Library = Literal["timm", "open_clip", "transformers"]
Modality = Literal["image", "text"]

GRAMMAR = """\
timm:<model>[@<weights file>][?size=<pixels>&pool=cls|mean|default&block=<index>]
open_clip:<architecture>/<tag or weights file>#image|text
transformers:<name or folder>[?pool=mean|cls|default]"""

_OPTIONS: dict[Library, tuple[str, ...]] = {
    "timm": ("size", "pool", "block"),
    "open_clip": (),
    "transformers": ("pool",),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LOCAL_DIR = "local-dir:"
"""What the model begins with where open_clip reads it from a folder."""

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar")
"""What the name of a weights file ends in; no pretrained tag ends so."""

_DECISIVE = ("weights_sha256", "definition_sha256", "pooling", "input_size", "preprocessing")
"""What of a stream's origin, beside its spec, decides whether features are comparable. Precision
and batch size move the last bits only."""


@dataclasses.dataclass(frozen=True)
class StreamSpec:
    """Which encoder a stream comes from; `str(spec)` gives the text back.

    Attributes:
        library: The package that builds the model.
        model: The model's name in that package, or a folder for transformers.
        weights: A pretrained tag or a weights file; None means the library's default.
        tower: `image` or `text` for a model that has both.
        size: Input size in pixels; None means the model's own.
        pool: `cls`, `mean` or `default` (what the model itself does).
        block: Index of the transformer block after which features are taken, from 0; None means
            the end.
    """

    library: Library
    model: str
    weights: str | None = None
    tower: Modality | None = None
    size: int | None = None
    pool: Literal["cls", "mean", "default"] = "default"
    block: int | None = None

    @classmethod
    def parse(cls, text: str) -> "StreamSpec":
        """Read a spec.

        Raises:
            ConfigError: The text does not follow the grammar; the message shows it.
        """
        library, colon, rest = text.partition(":")
        if not colon or library not in get_args(Library):
            raise _malformed(text, f"it must begin with one of {', '.join(get_args(Library))}")
        if library == "open_clip":
            return cls._parse_open_clip(text, rest)
        rest, _, query = rest.partition("?")
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        except ValueError:
            raise _malformed(text, "an option must be key=value") from None
        unknown = set(options) - set(_OPTIONS[library])  # type: ignore[index]
        if unknown:
            raise _malformed(text, f"unknown option {sorted(unknown)[0]!r}")
        model, at, weights = rest.partition("@") if library == "timm" else (rest, "", "")
        if not model or (at and not weights):
            raise _malformed(text, "a name is missing")
        pool = options.get("pool", "mean" if library == "transformers" else "default")
        if pool not in ("cls", "mean", "default"):
            raise _malformed(text, "pool must be cls, mean or default")
        return cls(
            library=library,  # type: ignore[arg-type]
            model=model,
            weights=weights or None,
            size=_number(text, options, "size", smallest=1),
            pool=pool,  # type: ignore[arg-type]
            block=_number(text, options, "block", smallest=0),
        )

    @classmethod
    def _parse_open_clip(cls, text: str, rest: str) -> "StreamSpec":
        rest, hash, tower = rest.rpartition("#")
        if not hash or tower not in get_args(Modality):
            raise _malformed(text, "it must end in #image or #text")
        if rest.startswith(("hf-hub:", _LOCAL_DIR)):
            return cls("open_clip", rest, tower=tower)  # type: ignore[arg-type]
        model, slash, weights = rest.partition("/")
        if not model or not slash or not weights:
            raise _malformed(text, "it must name a pretrained tag or a weights file")
        return cls("open_clip", model, weights=weights, tower=tower)  # type: ignore[arg-type]

    @property
    def modality(self) -> Modality:
        """What the encoder reads."""
        if self.library == "open_clip":
            assert self.tower is not None
            return self.tower
        return "image" if self.library == "timm" else "text"

    def anywhere(self) -> "StreamSpec":
        """The same with the absolute path of a file or folder here that holds the weights.

        What is no file or folder stays as it is: a name of the hub, a pretrained tag.
        """
        model, weights = self.model, self.weights
        if weights is not None and weights.endswith(WEIGHTS_SUFFIXES):
            weights = absolute_if_here(weights)
        if self.library == "transformers" and os.path.isdir(model):
            model = absolute_if_here(model)
        if self.library == "open_clip" and model.startswith(_LOCAL_DIR):
            model = _LOCAL_DIR + absolute_if_here(model.removeprefix(_LOCAL_DIR))
        found = dataclasses.replace(self, model=model, weights=weights)
        try:
            is_readable = StreamSpec.parse(str(found)) == found
        except ConfigError:
            is_readable = False
        # The name of a folder above may hold a question mark, which no spec can have in a path.
        return found if is_readable else self

    @property
    def place(self) -> str | None:
        """Where the model lies, if the spec says so: a file, a folder, or a repository of a hub.

        None for what is a name in the library's own registry, which says where its weights lie.
        """
        if self.weights is not None and (
            self.library == "timm" or self.weights.endswith(WEIGHTS_SUFFIXES) or "/" in self.weights
        ):
            return self.weights
        return self.model if self.library == "transformers" or ":" in self.model else None

    def without_place(self) -> "StreamSpec":
        """The same without the place of the file, or of the folder, that holds the weights."""
        if self.weights is not None and self.weights.endswith(WEIGHTS_SUFFIXES):
            return dataclasses.replace(self, weights="FILE")
        if self.library == "transformers" and self.model.startswith(("/", ".", "~")):
            return dataclasses.replace(self, model="FOLDER")
        if self.library == "open_clip" and self.model.startswith(_LOCAL_DIR):
            return dataclasses.replace(self, model=f"{_LOCAL_DIR}FOLDER")
        return self

    def __str__(self) -> str:
        if self.library == "open_clip":
            weights = f"/{self.weights}" if self.weights else ""
            return f"open_clip:{self.model}{weights}#{self.tower}"
        default = "mean" if self.library == "transformers" else "default"
        options = {
            "size": self.size,
            "pool": None if self.pool == default else self.pool,
            "block": self.block,
        }
        query = "&".join(f"{k}={v}" for k, v in options.items() if v is not None)
        weights = f"@{self.weights}" if self.weights else ""
        return f"{self.library}:{self.model}{weights}" + (f"?{query}" if query else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOrigin:
    """What made a stream's features; two streams with equal origins may be compared bit for bit.

    Attributes:
        spec: The `StreamSpec` as text, or `array` for features that came from elsewhere.
        pooling: How tokens became one vector, in words.
        input_size: Height and width of the encoder's input in pixels, or its context length in
            tokens; empty where it does not apply.
        weights_sha256: Digest of the model's tensors (names, dtypes, shapes and bytes), without
            position embeddings that were resampled to another input size.
        definition_sha256: Digest of what decides, beside the weights, what the model computes: its
            architecture with its activation and, of a text model, its tokenizer; empty in older
            records.
        preprocessing: What was done to an image or caption before the encoder, in words.
        precision: Arithmetic of the encoder: `float32`, or `bfloat16 autocast`.
        batch_size: Images or captions a forward pass; its composition moves the last bits.
    """

    spec: str
    pooling: str = ""
    input_size: tuple[int, ...] = ()
    weights_sha256: str = ""
    definition_sha256: str = ""
    preprocessing: str = ""
    precision: str = "float32"
    batch_size: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamInfo:
    """A stream of a cache, as its Zarr attributes record it.

    Attributes:
        name: Lower-case letters, digits and underscores, beginning with a letter.
        modality: What the encoder read.
        dim: Width of a feature.
        dtype: Stored type.
        compression: Lossless compression of a chunk.
        keep_bits: Mantissa bits kept, the others being zero (float32 only); None keeps all.
        origin: What made the features.
    """

    name: str
    modality: Modality
    dim: int
    dtype: Literal["float16", "float32"] = "float16"
    compression: Literal["none", "lz4", "zstd"] = "none"
    keep_bits: int | None = None
    origin: StreamOrigin

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.dim < 1:
            raise ConfigError(f"stream {self.name}: a feature needs at least one value")
        if self.keep_bits is not None and self.dtype != "float32":
            raise ConfigError(f"stream {self.name}: keep_bits needs dtype float32")


class EncoderDifference(NamedTuple):
    """What tells two encoders apart.

    Attributes:
        what: Its name in a stream's origin.
        first: Its value in the first.
        second: Its value in the second.
    """

    what: str
    first: Any
    second: Any


def encoder_difference(first: StreamOrigin, second: StreamOrigin) -> EncoderDifference | None:
    """What tells two encoders apart; None where they are the same, and features may be compared.

    This is the one answer to "is this the same encoder?". The digest of the weights is not enough:
    the same tensors are the weights of several models that compute other things. So the digests of
    what they compute must agree as well. Where one of the two was recorded before there was such a
    digest, the specs must agree instead, but for the place of the weights.
    """
    if not same_spec(first, second):
        return EncoderDifference("spec", first.spec, second.spec)
    for key in _DECISIVE:
        a, b = getattr(first, key), getattr(second, key)
        is_known = key != "definition_sha256" or (a and b)
        if is_known and a != b:
            return EncoderDifference(key, a, b)
    return None


def same_spec(first: StreamOrigin, second: StreamOrigin) -> bool:
    """Whether two specs agree, in all that other fields of the origins do not say.

    Those with a digest of the weights need not agree in the place of these; those with a digest of
    the definition as well need not agree at all, since a spec says nothing more.
    """
    if first.spec == second.spec:
        return True
    if not (first.weights_sha256 and second.weights_sha256):
        return False
    if first.definition_sha256 and second.definition_sha256:
        return True
    try:
        a, b = (StreamSpec.parse(origin.spec) for origin in (first, second))
    except ConfigError:  # not extracted by us: then only the same text is the same
        return False
    return a.without_place() == b.without_place() or _ends_in(a, b) or _ends_in(b, a)


def _ends_in(absolute: StreamSpec, relative: StreamSpec) -> bool:
    """Whether a folder's absolute path ends in the other's name.

    Specs were once recorded as typed, and a relative folder of transformers looks like a name of
    the hub.
    """
    if absolute.library != "transformers" or not absolute.model.startswith("/"):
        return False
    name = PurePosixPath(relative.model).parts
    ends = PurePosixPath(absolute.model).parts[-len(name) :]
    return ends == name and dataclasses.replace(relative, model=absolute.model) == absolute


def check_name(name: str) -> str:
    """The name itself, if a stream may be called so.

    Raises:
        ConfigError: It may not.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a stream cannot be called {name!r}: use lower-case letters, digits and underscores"
        )
    return name


def _number(text: str, options: dict[str, str], key: str, *, smallest: int) -> int | None:
    if key not in options:
        return None
    if not options[key].isdecimal() or int(options[key]) < smallest:
        raise _malformed(text, f"{key} must be a whole number of at least {smallest}")
    return int(options[key])


def _malformed(text: str, reason: str) -> ConfigError:
    grammar = " | ".join(GRAMMAR.splitlines())
    return ConfigError(f"cannot read stream spec {text!r}: {reason}. Specs are {grammar}")
