"""What a function of a user's own gives: a PyTorch module, and what its input is made of.

Light on purpose: a user's file may import this before any model library.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from sparc.extract.encoders.tower import Places


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """A model of images.

        def build(layer: int = 11) -> ImageModel:
            model = MyNet(layer)
            model.load_state_dict(torch.load(Path(__file__).parent / "net.pt", weights_only=True))
            return ImageModel(model, transform)

    SPARC moves the module to the device, in evaluation mode, frozen and in float32.

    Attributes:
        module: The model. Its weights identify it.
        prepare: An RGB image of Pillow as the model's input, a tensor of one shape whatever the
            image's size: usually (3, height, width). Called from several threads at once.
        encode: Features of a batch of such inputs, (images, dim); None: what the module returns.
        places: Instead of `encode`, the features of a batch before they are pooled, for heat maps:
            (images, rows, columns, channels), or `Places`, which has room for a class token.
        pool: The features of what `places` gives, (images, dim).
    """

    module: "nn.Module"
    prepare: "Callable[[Image.Image], Tensor]"
    encode: "Callable[[Tensor], Tensor] | None" = None
    places: "Callable[[Tensor], Tensor | Places] | None" = None
    pool: "Callable[[Any], Tensor] | None" = None

    def __post_init__(self) -> None:
        if (self.places is None) != (self.pool is None):
            raise ValueError("an ImageModel needs both places and pool, or neither")
        if self.places is not None and self.encode is not None:
            raise ValueError("an ImageModel has either encode, or places and pool")


@dataclasses.dataclass(frozen=True)
class TextModel:
    """A model of captions.

    Attributes:
        module: The model. Its weights identify it.
        tokenize: What the module takes for some captions: a tensor, or tensors by argument, which
            SPARC moves to the device. It cuts captions to the model's context.
        encode: Features of such an input, (captions, dim); None: what the module returns, called
            with a tensor or with keyword arguments.
    """

    module: "nn.Module"
    tokenize: "Callable[[Sequence[str]], Tensor | Mapping[str, Tensor]]"
    encode: "Callable[[Any], Tensor] | None" = None


OwnModel = ImageModel | TextModel
Build = Callable[..., OwnModel]
