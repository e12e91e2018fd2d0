"""What models of transformers that read images have in common, by whatever names."""

from typing import Any

from torch import Tensor, nn

from sparc.extract.encoders.tower import Places, no_prefix


class VisionModel:
    """A vision model, or the image tower of a model such as CLIP.

    Args:
        model: The model of transformers.

    Attributes:
        kind: What transformers calls models of its kind.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._is_tower = all(
            hasattr(model, name) for name in ("get_image_features", "vision_model", "text_model")
        )
        config = model.config
        self._config = config.vision_config if self._is_tower else config
        self.kind = str(config.model_type)

    @property
    def reads_images(self) -> bool:
        """Whether the model encodes images alone."""
        reads_pixels = getattr(self._model, "main_input_name", "") == "pixel_values"
        return self._is_tower or (reads_pixels and not hasattr(self._config, "text_config"))

    @property
    def tower(self) -> Any:
        """The part that ends in the last hidden state; it may pool that as well."""
        return self._model.vision_model if self._is_tower else self._inner

    @property
    def projection(self) -> nn.Module | None:
        """What maps the pooled output into the space that images and texts share."""
        return getattr(self._model, "visual_projection", None)

    @property
    def output_name(self) -> str:
        """What transformers calls the model's own feature."""
        if self._is_tower:
            return "get_image_features"
        return "pooler_output" if self.projection is None else "image_embeds"

    @property
    def has_class_token(self) -> bool:
        """Whether the model has a class token."""
        return any(
            name.rpartition(".")[2] in ("cls_token", "class_embedding")
            for name, _ in self.tower.named_parameters()
            if not name.startswith("head.")  # AIMv2's pools by a token of its own
        )

    def uses(self, name: str) -> bool:
        """Whether a tensor of the model, by name, belongs to what reads images."""
        return not self._is_tower or name.startswith(("vision", "visual"))

    def own_features(self, pixels: Tensor) -> Tensor | None:
        """What the model itself gives for images, (images, dim); None if it does not pool."""
        output = (
            self._model.get_image_features(pixel_values=pixels)
            if self._is_tower
            else self._model(pixel_values=pixels)
        )
        if isinstance(output, Tensor):  # of `get_image_features`, before version 5
            return output
        own: Tensor | None = getattr(output, "image_embeds", None)
        own = getattr(output, "pooler_output", None) if own is None else own
        return None if own is None else own.flatten(1)

    def hidden(self, pixels: Tensor) -> Tensor:
        """The last hidden state: (images, tokens, channels), or a map (images, channels, …)."""
        hidden: Tensor = self.tower(pixel_values=pixels).last_hidden_state
        return hidden

    def places(self, hidden: Tensor, pixels: Tensor) -> Places | None:
        """The last hidden state by place; None if which tokens are patches is not known."""
        if hidden.ndim == 4:
            patches = hidden.permute(0, 2, 3, 1)
            return Places(patches, no_prefix(patches))
        grid = self._grid(pixels)
        if grid is None or hidden.ndim != 3:
            return None
        rows, columns = grid
        first = hidden.shape[1] - rows * columns  # class and register tokens come first
        if first < 0 or bool(first) != self.has_class_token:
            return None
        patches = hidden[:, first:].reshape(len(hidden), rows, columns, -1)
        return Places(patches, hidden[:, :first])

    @property
    def _inner(self) -> Any:
        """The vision model inside one that projects."""
        return getattr(self._model, "vision_model", self._model)

    def _grid(self, pixels: Tensor) -> tuple[int, int] | None:
        patch = getattr(self._config, "patch_size", None)
        rows, columns = (patch, patch) if isinstance(patch, int) else (patch or (None, None))
        if not isinstance(rows, int) or not isinstance(columns, int):
            return None
        return pixels.shape[-2] // rows, pixels.shape[-1] // columns
