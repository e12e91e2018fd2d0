"""The model: one dictionary of sparse latents shared by several streams, ready for use.

Encodes raw features to codes and decodes codes to unit-scale features, for any of its streams
(arXiv 2507.06265, section 3). It must not know how the weights are learned: that is
`sparc.train.step.learner`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparc.common.config import from_mapping, to_mapping
from sparc.common.documents import parse_object
from sparc.common.errors import ConfigError, RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.text import size
from sparc.train.config import ModelConfig
from sparc.train.model.tensors import is_written_here, read_tensors, write_tensors
from sparc.train.model.topk import largest, sum_in_order

Mode = Literal["joint", "independent"]

_BYTES = 4
"""Of a parameter: they are float32."""

CONFIG_FILE = "config.json"
"""Holds a table `model` with the fields of `ModelConfig`, in a saved model and in a run alike."""
WEIGHTS_FILE = "model.safetensors"


class Codes(NamedTuple):
    """Sparse codes of some rows in one stream.

    Attributes:
        indices: The latents selected for each row, (rows, k) int64, in no particular order.
        values: Their values, (rows, k), zero where the logit was not positive: a row's true L0 is
            the number of values above zero, at most k.
    """

    indices: Tensor
    values: Tensor


class Sparc(nn.Module):
    """A sparse autoencoder with one encoder and one decoder a stream, over the same latents.

    The weights are zero until they are initialized (`sparc.train.model.initialize`) or loaded.

    Attributes:
        config: What the model was built from.
        encoder: By stream, (latents, dim): the encoder's rows.
        decoder: By stream, (latents, dim): the direction of each latent, of unit norm.
        pre_bias: By stream, (dim,): taken off before encoding, added again after decoding.
        latent_bias: By stream, (latents,).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        shapes = {stream.name: (config.latents, stream.dim) for stream in config.streams}
        self.encoder = _parameters(shapes)
        self.decoder = _parameters(shapes)
        self.pre_bias = _parameters({name: shape[1:] for name, shape in shapes.items()})
        self.latent_bias = _parameters({name: shape[:1] for name, shape in shapes.items()})

    @property
    def own_mode(self) -> Mode:
        """How the streams of a row selected while the model was trained."""
        return "joint" if self.config.selection == "global" else "independent"

    def normalize(self, stream: str, features: Tensor) -> Tensor:
        """Raw features as the model sees them, and as it reconstructs them.

        Args:
            stream: The stream they belong to.
            features: (rows, dim).

        Raises:
            SparcError: No such stream, no tensor, a wrong width, or a row that is zero or not
                finite.
        """
        self._check_stream(stream)
        weight = self.encoder[stream]
        if not isinstance(features, Tensor):
            kind = type(features).__name__  # type: ignore[unreachable]  # but not in a notebook
            raise SparcError(f"stream {stream}: features must be a tensor, not a {kind}")
        if features.ndim != 2 or features.shape[1] != weight.shape[1]:
            shape = tuple(features.shape)
            raise SparcError(
                f"stream {stream}: features must be (rows, {weight.shape[1]}), not {shape}"
            )
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

    def encode(self, features: Mapping[str, Tensor], mode: Mode | None = None) -> dict[str, Codes]:
        """Encode raw features of any of the model's streams.

        Args:
            features: By stream, (rows, dim). Streams may be missing: joint selection sums the
                logits of those that are there.
            mode: `joint`: the streams of a row select together, which needs the same rows in each;
                `independent`: each selects as if it were alone. By default as in training.

        Returns:
            Codes by stream. Ties are broken the same way for the same row.

        Raises:
            SparcError: An unknown stream or mode, a wrong shape, or a row that is zero or not
                finite.
        """
        mode = mode or self.own_mode
        if mode not in get_args(Mode):
            raise SparcError(f"mode must be {' or '.join(get_args(Mode))}, not {mode!r}")
        logits = self._all_logits(features, joint=mode == "joint")
        if mode == "joint":
            return select_jointly(logits, self.config.k)
        return select_independently(logits, self.config.k)

    forward = encode

    def encode_both(
        self, features: Mapping[str, Tensor]
    ) -> tuple[dict[str, Codes], dict[str, Codes]]:
        """The joint and the independent codes of `encode`, from one product a stream.

        Args:
            features: By stream, (rows, dim), the same rows in each.

        Returns:
            Joint codes and independent codes, each by stream.

        Raises:
            SparcError: As `encode`.
        """
        logits = self._all_logits(features, joint=True)
        k = self.config.k
        return select_jointly(logits, k), select_independently(logits, k)

    def decode(self, codes: Codes, stream: str) -> Tensor:
        """Rebuild a stream's normalized features from codes, which may be another stream's.

        Args:
            codes: Codes of some rows.
            stream: The stream whose decoder is used.

        Returns:
            (rows, dim), at the scale of `normalize`.
        """
        self._check_stream(stream)
        sums: Tensor = F.embedding_bag(
            codes.indices, self.decoder[stream], per_sample_weights=codes.values, mode="sum"
        )
        bias: Tensor = self.pre_bias[stream]
        return sums + bias

    def reconstruct(
        self,
        features: Mapping[str, Tensor],
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

    def save(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors`, which `load` reads.

        Args:
            folder: A path or fsspec URL; made if it is not there.

        Raises:
            RunError: It holds a `config.json` or weights of something else, or a run.
        """
        target = Folder(folder)
        target.create()
        _refuse_other(target)
        save_weights(self, target, WEIGHTS_FILE)
        content = json.dumps({"model": to_mapping(self.config)}, indent=2) + "\n"
        target.write(CONFIG_FILE, content.encode())

    def push_to_hub(self, repository: str, **options: object) -> str:
        """Publish the model on the Hugging Face Hub; see `sparc.train.model.hub.push_to_hub`."""
        from sparc.train.model.hub import push_to_hub

        return push_to_hub(self, repository, **options)  # type: ignore[arg-type]

    def _all_logits(self, features: Mapping[str, Tensor], *, joint: bool) -> dict[str, Tensor]:
        """Logits by stream, in the order of the configuration, so that sums are reproducible."""
        for stream in features:
            self._check_stream(stream)
        if not features:
            raise SparcError("no features were given: at least one stream is needed")
        rows = {stream: len(x) for stream, x in features.items()}
        if joint and len(set(rows.values())) > 1:
            counts = ", ".join(f"{stream} {count}" for stream, count in rows.items())
            raise SparcError(f"to select jointly every stream needs the same rows; given: {counts}")
        present = [name for name in self.config.names if name in features]
        return {name: self.logits(name, self.normalize(name, features[name])) for name in present}

    def _check_stream(self, stream: str) -> None:
        if stream not in self.config.names:
            known = ", ".join(self.config.names)
            raise SparcError(f"the model has no stream {stream!r}; it has {known}")


def scale(features: Tensor, config: ModelConfig) -> Tensor:
    """Normalize features without looking for rows that have no norm; (rows, dim)."""
    if config.normalize == "none":
        return features
    norms: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / norms


def select_jointly(logits: Mapping[str, Tensor], k: int) -> dict[str, Codes]:
    """Global TopK: the k latents with the largest sum of logits over the streams.

    Args:
        logits: By stream, (rows, latents) each; summed in the mapping's order.
        k: Latents a row.
    """
    total = sum_in_order(list(logits.values()))
    indices = largest(total, k)
    return {
        stream: Codes(indices, each.gather(1, indices).relu()) for stream, each in logits.items()
    }


def select_independently(logits: Mapping[str, Tensor], k: int) -> dict[str, Codes]:
    """Local TopK: the k latents with the largest logits of each stream.

    Args:
        logits: By stream, (rows, latents) each.
        k: Latents a row.
    """
    codes = {}
    for stream, each in logits.items():
        indices = largest(each, k)
        codes[stream] = Codes(indices, each.gather(1, indices).relu())
    return codes


def create_model(config: ModelConfig, *, seed: int = 42) -> Sparc:
    """Build a model with freshly initialized weights (the default recipe, zero pre-biases).

    Args:
        config: The model's streams and sizes.
        seed: Seed of the weights.
    """
    from sparc.train.model.initialize import initial_model

    return initial_model(config, recipe="default", seed=seed, means=None)


def load(location: str | Path) -> Sparc:
    """Load a trained model, on the CPU and ready for use.

    It is in evaluation mode and its weights are frozen, so that codes are plain numbers and need no
    `torch.no_grad()`; `model.requires_grad_()` thaws them.

    Args:
        location: The folder of a run or of a saved model (a path or fsspec URL), or the id
            `owner/name` of a repository on the Hugging Face Hub.

    Raises:
        RunError: Nothing is there, or what is there is no SPARC model, is damaged, or is a run that
            has not finished.
    """
    from sparc.train.model.hub import download, is_repository_id
    from sparc.train.run.run_folder import is_run, require_finished
    from sparc.train.run.sweep import SWEEP_FILE

    folder = Folder(location)
    if not folder.exists(CONFIG_FILE):
        if folder.exists(SWEEP_FILE):
            raise RunError(f"{location} is a sweep: give one of the runs in it")
        if folder.exists() or not is_repository_id(str(location)):
            raise RunError(f"{location} holds no SPARC model: {CONFIG_FILE} is not there")
        folder = download(str(location))
    elif folder.local is not None and is_run(folder.local):
        require_finished(folder.local)
    config = read_model_config(folder)
    _require_weights(config, folder)
    model = Sparc(config)
    load_weights(model, folder, WEIGHTS_FILE)
    return model.eval().requires_grad_(False)


def read_model_config(folder: Folder) -> ModelConfig:
    """The model's configuration, from the table `model` of a folder's `config.json`.

    Raises:
        RunError: The file is damaged or of something else.
    """
    where = f"{folder}/{CONFIG_FILE}"
    try:
        table = parse_object(folder.read(CONFIG_FILE))["model"]
        if not isinstance(table, dict):
            raise TypeError("model is not a table")
        return from_mapping(ModelConfig, table, source=f"{where}: model")
    except FileNotFoundError as error:
        raise RunError(f"{where} is not there") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{where} does not describe a SPARC model: {error!r}") from error
    except ConfigError as error:
        raise RunError(str(error)) from error


def _refuse_other(folder: Folder) -> None:
    """Refuse to replace what is no saved model: many programs have files of these names."""
    if not folder.exists(CONFIG_FILE):
        if folder.exists(WEIGHTS_FILE) and not is_written_here(folder, WEIGHTS_FILE):
            raise RunError(
                f"{folder} holds a {WEIGHTS_FILE} that SPARC did not write: save to another folder"
            )
        return
    try:
        is_model = parse_object(folder.read(CONFIG_FILE)).keys() == {"model"}
    except ValueError:
        is_model = False
    if not is_model:
        raise RunError(
            f"{folder} holds a {CONFIG_FILE} that is no saved model's: save to another folder"
        )


def _require_weights(config: ModelConfig, folder: Folder) -> None:
    """Refuse sizes that the weights do not have, before memory is asked for."""
    where = f"{folder}/{WEIGHTS_FILE}"
    try:
        there = folder.size_of(WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise RunError(f"{where} is not there") from error
    if config.parameters * _BYTES > there:
        raise RunError(
            f"{where} has {size(there)}: it is cut off, or {CONFIG_FILE} describes another model"
        )


def save_weights(model: Sparc, folder: Folder, name: str) -> None:
    """Write a model's weights as safetensors, whole or not at all."""
    write_tensors(folder, name, model.state_dict(), about=to_mapping(model.config))


def load_weights(model: Sparc, folder: Folder, name: str) -> None:
    """Read a model's weights from safetensors, in place.

    Raises:
        RunError: The file is missing or damaged, or its tensors are not those of this model.
    """
    where = f"{folder}/{name}"
    largest = model.config.parameters * _BYTES
    found = read_tensors(folder, name, largest=largest, about=to_mapping(model.config))
    wanted = model.state_dict()
    if found.keys() != wanted.keys():
        key = sorted(found.keys() ^ wanted.keys())[0]
        problem = "has no" if key in wanted else "holds an unknown"
        raise RunError(f"{where} {problem} tensor {key}: it was made by another model")
    for key, tensor in wanted.items():
        if found[key].shape != tensor.shape:
            shapes = f"{tuple(found[key].shape)}, not {tuple(tensor.shape)}"
            raise RunError(f"{where}: tensor {key} has shape {shapes}")
    model.load_state_dict(found)


def _parameters(shapes: Mapping[str, tuple[int, ...]]) -> nn.ParameterDict:
    return nn.ParameterDict(
        {name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
    )
