"""A user's functions as encoder libraries: in files and modules, and under names of their own."""

from typing import TYPE_CHECKING, Any

from sparc.extract.encoders.python.spec import FunctionSpec, PythonSpec, registered_spec

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoder
    from sparc.extract.encoders.python.own_models import Build


class PythonLibrary:
    """Functions in files and modules; see `sparc.extract.encoders.library.Library`."""

    spec: type[FunctionSpec] = PythonSpec
    package = "torch"

    def width(self, spec: FunctionSpec) -> int | None:  # noqa: ARG002
        """See `Library.width`: unknown, since a dry run runs no code of a user's."""
        return None

    def load(self, spec: FunctionSpec) -> Any:
        """See `Library.load`."""
        from sparc.extract.encoders.python.function import function_of
        from sparc.extract.encoders.python.models import load_own

        assert isinstance(spec, PythonSpec)
        return load_own(spec, function_of(spec), file=spec.home if spec.is_file else None)

    def build(self, spec: FunctionSpec, model: Any, device: "torch.device") -> "Encoder":
        """See `Library.build`."""
        from sparc.extract.encoders.python.models import OwnImageEncoder, OwnTextEncoder

        if spec.tower == "image":
            return OwnImageEncoder(spec, model, device)
        return OwnTextEncoder(spec, model, device)


class RegisteredLibrary(PythonLibrary):
    """A function under a name of its own.

    Args:
        name: What its specs begin with.
        function: Called with what a spec says between the colon and `?`, unless that is nothing,
            and with the spec's options.
    """

    def __init__(self, name: str, function: "Build") -> None:
        self.spec = registered_spec(name)
        self._function = function

    def load(self, spec: FunctionSpec) -> Any:
        """See `Library.load`."""
        from sparc.extract.encoders.python.models import load_own

        return load_own(spec, self._function, arguments=(spec.name,) if spec.name else ())
