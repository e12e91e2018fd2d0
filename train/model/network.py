"""The model: one dictionary of sparse latents shared by several streams, ready for use.

Encodes raw features to codes and decodes codes to unit-scale features, for any of its streams
(arXiv 2507.06265, section 3). It must not know how the weights are learned: that is
`sparc.train.step.learner`.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import get_args, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparc.common.errors import SparcError
from sparc.common.files.folder import Folder
from sparc.train.config import ModelConfig
from sparc.train.model.card import ModelCard, render_card
from sparc.train.model.codes import Codes, Mode
from sparc.train.model.features import Features, as_tensor, as_tensors
from sparc.train.model.files import (
    WEIGHTS_FILE,
    read_weights,
    refuse_other_files,
    write_config,
    write_weights,
)
from sparc.train.model.hub import require_repository_id, upload
from sparc.train.model.selectors.selector import select, selector_of


class Sparc(nn.Module):
    """A sparse autoencoder with one encoder and one decoder per stream, over the same latents.

    The weights are zero until they are initialized (`sparc.train.model.initialize`) or loaded.

    Attributes:
        config: What the model was built from.
        encoder: By stream, (latents, dim): the encoder's rows.
        decoder: By stream, (latents, dim): the direction of each latent, of unit norm.
        pre_bias: By stream, (dim,): subtracted before encoding, added after decoding.
        latent_bias: By stream, (latents,).
        selector: Which latents a row uses.
        thresholds: What a selector with thresholds has learned, (1 + streams,) float32: of the sum
            of all streams, and of each stream's own logits; NaN before the first step. None for
            others.
    """

    thresholds: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.selector = selector_of(config.selection)
        shapes = {stream.name: (config.latents, stream.dim) for stream in config.streams}
        self.encoder = _parameters(shapes)
        self.decoder = _parameters(shapes)
        self.pre_bias = _parameters({name: shape[1:] for name, shape in shapes.items()})
        self.latent_bias = _parameters({name: shape[:1] for name, shape in shapes.items()})
        unknown = torch.full((1 + len(shapes),), torch.nan)
        learns = self.selector.learns_thresholds
        self.register_buffer("thresholds", unknown if learns else None)

    @property
    def own_mode(self) -> Mode:
        """The mode in which the model was trained."""
        return self.selector.own_mode

    def normalize(self, stream: str, features: Features) -> Tensor:
        """Raw features as the model sees them, and as it reconstructs them.

        Args:
            stream: The stream they belong to.
            features: (rows, dim).

        Raises:
            SparcError: No such stream, no numbers, a wrong width, or a row that is zero or not
                finite.
        """
        self.check_stream(stream)
        weight = self.encoder[stream]
        features = as_tensor(stream, features)
        self._check_shape(stream, features)
        features = features.to(device=weight.device, dtype=weight.dtype)
        norms = torch.linalg.vector_norm(features, dim=1)
        usable = norms.isfinite() & (norms > 0)
        if not bool(usable.all()):
            row = int(usable.logical_not().nonzero()[0, 0])
            raise SparcError(
                f"stream {stream}, row {row}: the feature is zero or not finite and has no code; "
                "leave the row out (a cache marks such rows as not valid)"
            )
        return scale(features, self.config)

    def logits(self, stream: str, normalized: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Logits of every latent, (rows, latents): W_enc (x - b_pre) + b_lat.

        Args:
            stream: The stream.
            normalized: Features as `normalize` returns them, (rows, dim).
            out: Where to put them, if not in a new tensor; without gradients.
        """
        centred = normalized - self.pre_bias[stream]
        return torch.addmm(self.latent_bias[stream], centred, self.encoder[stream].T, out=out)

    @overload
    def encode(
        self, features: Mapping[str, Features], mode: Mode | None = None
    ) -> dict[str, Codes]: ...

    @overload
    def encode(
        self, features: Features, mode: Mode | None = None, *, stream: str = ""
    ) -> Codes: ...

    def encode(
        self,
        features: Mapping[str, Features] | Features,
        mode: Mode | None = None,
        *,
        stream: str = "",
    ) -> dict[str, Codes] | Codes:
        """Encode raw features of any of the model's streams.

            codes = model.encode({"dino": dino, "clip": clip})  # codes["dino"], codes["clip"]
            codes = model.encode(dino, stream="dino")  # of one stream alone
            codes = model.encode(dino[7], stream="dino")  # of a single row

        Args:
            features: By stream, (rows, dim): tensors, arrays, or what NumPy makes arrays of.
                Streams may be missing: joint selection sums the logits of those that are given.
                (dim,) in every stream is a single row. Or the features of one stream alone.
            mode: `joint`: the streams of a row select the same latents, which needs the same rows
                in each; `independent`: each selects by its own logits. By default as in training.
            stream: Whose features they are, if they are not given by stream; may be left out if
                the model has only one.

        Returns:
            Codes by stream; those of the one stream whose features were given alone. Ties are
            broken the same way for the same row.

        Raises:
            SparcError: An unknown stream or mode, a wrong shape, or a row that is zero or not
                finite.
        """
        mode = mode or self.own_mode
        if mode not in get_args(Mode):
            raise SparcError(f"mode must be {' or '.join(get_args(Mode))}, not {mode!r}")
        by_stream = self._by_stream(features, stream)
        tensors, single = as_tensors(by_stream)
        codes = self.select(self._all_logits(tensors, joint=mode == "joint"), mode)
        if single:
            codes = {name: of_stream.single() for name, of_stream in codes.items()}
        return codes if by_stream is features else next(iter(codes.values()))

    forward = encode

    def select(self, logits: Mapping[str, Tensor], mode: Mode) -> dict[str, Codes]:
        """Codes from logits.

        Args:
            logits: By stream, (rows, latents) each, from `logits`; streams may be missing.
            mode: As for `encode`.

        Returns:
            Codes by stream; in joint mode the streams share one tensor of indices.
        """
        return select(self.selector, self.config, logits, mode, self.threshold)

    def known_thresholds(self) -> Tensor | None:
        """`thresholds`, or None where the selector has none or none was learned yet."""
        if self.thresholds is None or bool(self.thresholds.isnan().any()):
            return None
        return self.thresholds

    def threshold(self, streams: Sequence[str]) -> Tensor | None:
        """The threshold for the logits summed over a subset of the streams.

        It was learned for each stream's own logits and for the sum of all. The streams' thresholds
        add up to more than that of the sum, by a gap; for some of the streams the gap is the share
        that their pairs have in all pairs.
        """
        thresholds, names = self.known_thresholds(), self.config.names
        if thresholds is None:
            return None
        own = thresholds[1:]
        total = torch.stack([own[names.index(stream)] for stream in streams]).sum()
        pairs = len(streams) * (len(streams) - 1)
        if pairs:
            total = total - (own.sum() - thresholds[0]) * pairs / (len(names) * (len(names) - 1))
        return total

    def encode_both(
        self, features: Mapping[str, Features]
    ) -> tuple[dict[str, Codes], dict[str, Codes]]:
        """The joint and the independent codes of `encode`, from one product a stream.

        Args:
            features: By stream, (rows, dim), the same rows in each; or (dim,), as for `encode`.

        Returns:
            Joint codes and independent codes, each by stream.

        Raises:
            SparcError: As `encode`.
        """
        tensors, single = as_tensors(features)
        logits = self._all_logits(tensors, joint=True)
        joint, independent = self.select(logits, "joint"), self.select(logits, "independent")
        if not single:
            return joint, independent
        return (
            {name: codes.single() for name, codes in joint.items()},
            {name: codes.single() for name, codes in independent.items()},
        )

    def decode(self, codes: Codes, stream: str) -> Tensor:
        """Rebuild a stream's normalized features from codes, which may be another stream's.

        Args:
            codes: Codes of some rows.
            stream: The stream whose decoder is used.

        Returns:
            (rows, dim), at the scale of `normalize`; (dim,) of a single row.
        """
        self.check_stream(stream)
        indices, values = (x if x.ndim == 2 else x[None] for x in codes)
        sums: Tensor = F.embedding_bag(
            indices, self.decoder[stream], per_sample_weights=values, mode="sum"
        )
        bias: Tensor = self.pre_bias[stream]
        return (sums + bias).squeeze(0) if codes.values.ndim == 1 else sums + bias

    def reconstruct(
        self,
        features: Mapping[str, Features],
        source: str,
        target: str,
        mode: Mode | None = None,
    ) -> Tensor:
        """Rebuild the target stream's normalized features from the source stream's code.

        Args:
            features: By stream, (rows, dim); in joint mode all of them choose the latents.
            source: The stream whose code is decoded.
            target: The stream whose decoder is used; the source itself for self-reconstruction.
            mode: As for `encode`.

        Returns:
            (rows, dim of the target).

        Raises:
            SparcError: As `encode`, or the source is not among the features.
        """
        if source not in features:
            raise SparcError(f"no features of stream {source} were given")
        return self.decode(self.encode(features, mode)[source], target)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors`, which `sparc.train.load` reads.

        Args:
            folder: A path or fsspec URL; made if it is not there.

        Raises:
            RunError: It holds a `config.json` or weights of something else, or a run.
        """
        target = Folder(folder)
        target.create()
        refuse_other_files(target)
        self.write_weights(target, WEIGHTS_FILE)
        write_config(target, self.config)

    def write_weights(self, folder: Folder, name: str) -> None:
        """Write the weights as safetensors, whole or not at all.

        Args:
            folder: Where to.
            name: The file's name.
        """
        write_weights(folder, name, self.config, self.state_dict())

    def read_weights(self, folder: Folder, name: str) -> None:
        """Read the weights from safetensors, in place; arguments as for `write_weights`.

        Raises:
            RunError: The file is missing or damaged, or its tensors are those of another model.
        """
        self.load_state_dict(read_weights(folder, name, self.config, self.state_dict()))

    def push_to_hub(
        self,
        repository: str,
        *,
        card: ModelCard | None = None,
        private: bool = False,
        token: str | None = None,
    ) -> str:
        """Publish the model on the Hugging Face Hub: its two files and a model card.

        Args:
            repository: The id `owner/name`; the repository is made if it is not there.
            card: What is known about the model.
            private: Whether a new repository is private.
            token: An access token; by default the one that the hub's own login stored.

        Returns:
            The address of the commit.

        Raises:
            SparcError: The id is malformed or the hub refused.
        """
        require_repository_id(repository)
        text = render_card(self.config, repository, card or ModelCard())
        with tempfile.TemporaryDirectory() as folder:
            self.save(folder)
            return upload(folder, text, repository, private=private, token=token)

    def _all_logits(self, features: Mapping[str, Tensor], *, joint: bool) -> dict[str, Tensor]:
        """Logits by stream, in the order of the configuration, so that sums are reproducible."""
        for stream, values in features.items():
            self.check_stream(stream)
            self._check_shape(stream, values)
        if not features:
            raise SparcError("no features were given: at least one stream is needed")
        rows = {stream: len(x) for stream, x in features.items()}
        if joint and len(set(rows.values())) > 1:
            counts = ", ".join(f"{stream} {count}" for stream, count in rows.items())
            raise SparcError(f"to select jointly every stream needs the same rows; given: {counts}")
        present = [name for name in self.config.names if name in features]
        return {name: self.logits(name, self.normalize(name, features[name])) for name in present}

    def _by_stream(
        self, features: Mapping[str, Features] | Features, stream: str
    ) -> Mapping[str, Features]:
        """Features by stream, where those of one may have been given alone."""
        if isinstance(features, Mapping):
            if stream:
                raise SparcError(f"stream {stream!r} beside features by stream: leave it out")
            return features
        if not stream and len(self.config.names) > 1:
            known = ", ".join(self.config.names)
            raise SparcError(f"say whose features they are with stream=…, one of {known}")
        return {stream or self.config.names[0]: features}

    def __repr__(self) -> str:
        widths = ", ".join(f"{stream.name} {stream.dim:,}" for stream in self.config.streams)
        return (
            f"Sparc({widths}; {self.config.latents:,} latents, k {self.config.k}, selection "
            f"{self.config.selection})"
        )

    def _check_shape(self, stream: str, features: Tensor) -> None:
        dim, shape = self.encoder[stream].shape[1], tuple(features.shape)
        if len(shape) != 2 or shape[1] != dim:
            raise SparcError(f"stream {stream}: features must be (rows, {dim}), not {shape}")

    def check_stream(self, stream: str) -> None:
        """Refuse the name of a stream that the model does not have.

        Raises:
            SparcError: It is one.
        """
        if stream not in self.config.names:
            known = ", ".join(self.config.names)
            raise SparcError(f"the model has no stream {stream!r}; it has {known}")


def scale(features: Tensor, config: ModelConfig) -> Tensor:
    """Normalize features without looking for rows that have no norm; (rows, dim)."""
    if config.normalize == "none":
        return features
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norms


def _parameters(shapes: Mapping[str, tuple[int, ...]]) -> nn.ParameterDict:
    return nn.ParameterDict(
        {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    )
