"""The interface of an encoder library; `sparc.extract.encoders.libraries` lists them."""

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sparc.extract.encoders.spec import StreamSpec

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoder

S = TypeVar("S", bound=StreamSpec)


class Library(Protocol[S]):
    """A library of encoders, behind functions that import it only when they are called.

    Attributes:
        spec: The class of its specs.
        package: The distribution that a user installs for it; caches record its version.
    """

    spec: type[S]
    package: str

    def width(self, spec: S) -> int | None:
        """Values of a feature, without weights and without a network; None if that is unknown.

        Raises:
            ImportError: The library is not installed.
            EncoderError: It has no such model.
        """
        ...

    def load(self, spec: S) -> Any:
        """The model with its weights on the CPU; depends on nothing but `spec.model_key`.

        Raises:
            EncoderError: The model cannot be loaded.
        """
        ...

    def build(self, spec: S, model: Any, device: "torch.device") -> "Encoder":
        """The encoder of a stream, an `ImageEncoder` or a `TextEncoder` as `spec.modality` says.

        An image encoder that localization can look into also has the method `tower` (see
        `sparc.extract.encoders.tower.TowerEncoder`).

        Args:
            spec: The stream's spec.
            model: What `load` returned; it may be shared with other streams.
            device: Where the model runs.

        Raises:
            EncoderError: The model does not allow what the spec asks for.
        """
        ...
