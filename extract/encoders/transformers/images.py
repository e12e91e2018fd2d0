"""Image encoders of Hugging Face transformers: vision models, and the towers of such as CLIP."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from sparc.common.errors import EncoderError
from sparc.common.streams.origin import StreamOrigin
from sparc.common.text import amount, printable
from sparc.extract.encoders.definition import definition_digest, effective
from sparc.extract.encoders.encoder import (
    differing_shapes,
    gives_same_twice,
    inputs_of_sizes,
)
from sparc.extract.encoders.foreign import ModelRefusedError
from sparc.extract.encoders.hub import loading
from sparc.extract.encoders.layout import placed
from sparc.extract.encoders.precision import autocast
from sparc.extract.encoders.spec import Pool
from sparc.extract.encoders.transformers.loading import TransformersModel
from sparc.extract.encoders.transformers.preprocessing import ImageProcessor
from sparc.extract.encoders.transformers.spec import TransformersSpec
from sparc.extract.encoders.transformers.tower import TransformersTower
from sparc.extract.encoders.transformers.vision import VisionModel

_IN_WORDS = {
    "mean": "mean of the patch tokens or of the feature map",
    "cls": "class token of the last hidden state",
}

_CLASS_TOKEN_MODELS = ("vit",)
"""Kinds of models whose classifiers read the class token, as their pooler does in other copies."""


class TransformersImageEncoder:
    """A vision model of transformers as an `ImageEncoder`.

    What becomes the feature of an image: `pool=default`, what the model itself gives, which is
    `get_image_features` of a model such as CLIP, `image_embeds` of its image tower alone, else
    `pooler_output`; `pool=cls`, the class token of the last hidden state; `pool=mean`, the mean of
    its patch tokens or of its feature map. Without `pool`: `default` where that was trained, the
    class token of a ViT without a pooler; others must be asked for.

    Args:
        spec: What to build.
        loaded: The model, from `load_transformers`.
        device: Where it runs.

    Attributes:
        dim: Width of a feature.
        origin: What the stream's attributes record.
        processor: The model's own image processor.
        device: Where the model runs.

    Raises:
        EncoderError: The model reads no images, has no such pooling, does not say how images are
            prepared, or draws at random.
    """

    def __init__(
        self, spec: TransformersSpec, loaded: TransformersModel, device: torch.device
    ) -> None:
        self._spec = spec
        self.device = device
        self._vision = VisionModel(placed(loaded.model, device))
        if not self._vision.reads_images:
            raise EncoderError(
                f"{printable(str(spec))}: the model reads no images"
                + (", or not them alone" if hasattr(loaded.model, "get_image_features") else "")
            )
        with loading(spec, from_hub=not Path(spec.model).is_dir()):
            self.processor = ImageProcessor(spec.model)
            inputs = inputs_of_sizes(self.prepare)
            if shapes := differing_shapes(inputs):
                raise ModelRefusedError(
                    f"images of different sizes become inputs of different shapes, {shapes}: set "
                    "do_center_crop and crop_size, or a size of height and width, in its "
                    "preprocessor_config.json"
                )
            probe = torch.linspace(-1, 1, inputs[0].numel()).reshape(1, *inputs[0].shape)
            self.pool = self._choose_pool(probe, loaded.missing)
            self._refuse_missing(loaded.missing)
            self.dim = int(self.encode(probe).shape[1])
            if not gives_same_twice(lambda: self.encode(probe)):
                raise ModelRefusedError(
                    "it gives other features each time for the same image: it hides patches at "
                    "random, as it was trained"
                )
        self.origin = StreamOrigin(
            spec=str(spec),
            pooling=_IN_WORDS.get(self.pool, f"the model's own {self._vision.output_name}"),
            input_size=tuple(inputs[0].shape[-2:]),
            weights_sha256=loaded.digest,
            definition_sha256=definition_digest(
                library="transformers", tower="image", config=effective(loaded.config)
            ),
            preprocessing=str(self.processor),
        )

    def prepare(self, image: Image.Image) -> Tensor:
        """Prepare an RGB image as `AutoImageProcessor` does: (3, height, width) float32."""
        return self.processor(image)

    def encode(self, pixels: Tensor) -> Tensor:
        """Features of prepared images: (images, dim) float32, on the device."""
        with torch.inference_mode(), autocast(self.device):
            pixels = pixels.to(self.device, non_blocking=True)
            if self.pool == "default":
                features = self._vision.own_features(pixels)
                if features is None:
                    raise EncoderError(f"{printable(str(self._spec))}: {self._no_output()}")
                return features.float()
            hidden = self._vision.hidden(pixels)
            places = self._vision.places(hidden, pixels)
            if places is None:
                raise EncoderError(
                    f"{printable(str(self._spec))}: which tokens are its patches is not known: use "
                    "pool=default"
                )
            if self.pool == "mean":
                return places.patches.mean((1, 2)).float()
            if not places.prefix.shape[1]:
                raise EncoderError(
                    f"{printable(str(self._spec))}: the model has no class token: use pool=mean or "
                    "pool=default"
                )
            return places.prefix[:, 0].float()

    def tower(self) -> TransformersTower:
        """See `TowerEncoder.tower`."""
        return TransformersTower(self._vision, self.pool)

    def _choose_pool(self, probe: Tensor, missing: Sequence[str]) -> Pool:
        """The pooling of the spec, else the one that the model was trained with.

        Raises:
            EncoderError: Nothing says which one that is.
        """
        if self._spec.pool is not None:
            assert self._spec.pool != "last"
            return self._spec.pool
        with torch.inference_mode():
            has_output = self._vision.own_features(probe.to(self.device)) is not None
        if has_output and not any("pooler" in name for name in missing):
            return "default"
        if self._vision.kind in _CLASS_TOKEN_MODELS:
            return "cls"
        raise EncoderError(f"{printable(str(self._spec))}: {self._no_output()}")

    def _no_output(self) -> str:
        has_token = self._vision.has_class_token
        pools = "?pool=cls or ?pool=mean" if has_token else "?pool=mean"
        return (
            "the model has no pooled output that was trained, and so nothing says how its tokens "
            f"become a feature: add {pools}"
        )

    def _refuse_missing(self, missing: Sequence[str]) -> None:
        used = [name for name in missing if self._vision.uses(name)]
        if self.pool != "default":  # the pooler is not used then
            used = [name for name in used if not {"pooler", "head"} & {*name.split(".")}]
        if used:
            raise EncoderError(
                f"{printable(str(self._spec))}: the weights lack {amount(len(used), 'tensor')} of "
                f"the model, the first is {used[0]}"
            )
