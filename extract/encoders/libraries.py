"""The encoder libraries: parsing a spec and building its encoder, whichever library it names.

To add one, write a package beside this module, such as `timm/`:

- `__init__.py`, a line that says what lives there.
- `spec.py`: a `StreamSpec`, the grammar of `NAME:source`. It imports no model library, since every
  command line parses specs. `place` is the file, folder or hub repository that the source names:
  what a cache or run says lies there is opened only with the user's consent. None: a name that the
  library itself resolves.
- `library.py`: a `Library`, whose methods import `models.py` when called. `package` is what
  a user installs with pip: its version is recorded, and a missing one is advised.
- `models.py`: loads the model and makes it an `ImageEncoder` or `TextEncoder`. It imports the model
  library and `spec.py`, never `library.py`, so that no two modules import each other.

Then add the library to `_BUILT_IN`, and the package to the list of packages in `pyproject.toml`. A
program of your own calls `register` instead; its spec and library may share a module. A single
model needs no library: a function that gives it is enough (`register_encoder`, or
`python:FILE.py:FUNCTION`). An installed package offers either, a function or a `Library`, under the
entry point `sparc.encoders`, by the name that its specs begin with.

An encoder's `origin` is a `StreamOrigin`, by which later commands know the encoder again: they
refuse another one. Fill in

- `spec`: `str(spec.absolute())`;
- `weights_sha256`: `weights.weights_digest(model)`;
- `definition_sha256`: `definition.definition_digest(...)` of what else decides the output, such as
  the architecture and, for texts, `tokenizer_digest`;
- `pooling`: in words, how tokens became one vector;
- `preprocessing`: in words, what was done to the image or caption first;
- `input_size`: height and width in pixels, or the context length in tokens.

`weights.load_weights(path)` reads a weights file and runs no code of it. An `EncoderError` of yours
reaches the user as one line; `hub.loading` makes one of whatever a library raises.
"""

import importlib.metadata
import re
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from sparc.common.errors import ConfigError
from sparc.common.text import reason
from sparc.extract.encoders.library import Library
from sparc.extract.encoders.open_clip.library import OpenClipLibrary
from sparc.extract.encoders.patches.spec import PatchSpec, patches_asked_for
from sparc.extract.encoders.python.library import PythonLibrary, RegisteredLibrary
from sparc.extract.encoders.spec import MalformedSpecError, StreamSpec
from sparc.extract.encoders.timm.library import TimmLibrary
from sparc.extract.encoders.transformers.library import TransformersLibrary

if TYPE_CHECKING:
    import torch

    from sparc.extract.encoders.encoder import Encoders, ImageEncoder, TextEncoder
    from sparc.extract.encoders.python.own_models import Build

_BUILT_IN: tuple[Library[Any], ...] = (
    TimmLibrary(),
    OpenClipLibrary(),
    TransformersLibrary(),
    PythonLibrary(),
)

ENTRY_POINTS = "sparc.encoders"
"""The group of entry points under which installed packages offer encoders."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")

LIBRARIES: dict[str, Library[Any]] = {library.spec.library: library for library in _BUILT_IN}
"""The libraries by name, as specs name them."""


def register(library: Library[Any]) -> None:
    """Make a library known to every command of this process.

    Raises:
        ConfigError: There is a library of that name.
    """
    name = library.spec.library
    if name in LIBRARIES:
        raise ConfigError(f"there is an encoder library {name!r} already")
    LIBRARIES[name] = library


def register_encoder(name: str, function: "Build") -> None:
    """Make a model of your own known to this process, as the encoder `name:`.

        def build(layer: int = 11) -> ImageModel:
            return ImageModel(MyNet(layer), transform)

        register_encoder("mylab", build)  # --stream 'mine=mylab:?layer=9'

    Args:
        name: What its specs begin with: lower-case letters, digits and underscores.
        function: Gives an `ImageModel` or a `TextModel`. It is called with what stands between the
            colon and `?` of a spec, if anything does, and with the spec's options. It takes the
            place of one that was registered under the name before, as in a notebook.

    Raises:
        ConfigError: There is an encoder library of that name, or nothing can be called so.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"an encoder cannot be called {name!r}: use lower-case letters, digits and underscores"
        )
    if isinstance(LIBRARIES.get(name), RegisteredLibrary):
        del LIBRARIES[name]
    register(RegisteredLibrary(name, function))


def parse_spec(text: str) -> StreamSpec:
    """The spec of a text, as a user writes it or a cache records it.

    Raises:
        ConfigError: The text does not follow the grammar; the message shows it.
    """
    try:
        whole, grid = patches_asked_for(text)
        name, colon, source = whole.partition(":")
        if not colon or not _is_known(name):
            raise MalformedSpecError(
                f"it must begin with one of {', '.join(LIBRARIES)}, or with a name that "
                "register_encoder has made known"
            )
        spec: StreamSpec = LIBRARIES[name].spec.parse(source)
        if grid is not None and spec.modality == "text":
            raise MalformedSpecError("captions have no patches: add #image, or remove tokens=patch")
    except MalformedSpecError as error:
        grammars = [library.spec.grammar for library in LIBRARIES.values()]
        grammar = " | ".join([*grammars, PatchSpec.grammar])
        raise ConfigError(
            f"cannot read stream spec {text!r}: {error}. Specs are {grammar}"
        ) from None
    return spec if grid is None else PatchSpec(spec, grid)


def _is_known(name: str) -> bool:
    """Whether there is such a library, here or in an installed package, which is then registered.

    Raises:
        ConfigError: The package's entry point cannot be imported.
    """
    if name in LIBRARIES:
        return True
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        try:
            offered = entry.load()
        except Exception as error:
            raise ConfigError(
                f"the encoder {name!r} of an installed package cannot be imported from "
                f"{entry.value}: {type(error).__name__}: {reason(error)}"
            ) from error
        if hasattr(offered, "spec"):
            register(offered)
        else:
            register_encoder(name, offered)
    return name in LIBRARIES


def feature_width(spec: StreamSpec) -> int | None:
    """Values of an encoder's feature, from its library's description; None if that is unknown.

    Raises:
        EncoderError: The library has no such model.
    """
    if isinstance(spec, PatchSpec):  # patches may be wider than what is made of them
        return None
    try:
        return LIBRARIES[spec.library].width(spec)
    except ImportError:
        return None


def packages_of(specs: Iterable[StreamSpec]) -> list[str]:
    """The packages that some encoders need, by the names that a user installs."""
    return list(dict.fromkeys(LIBRARIES[_whole(spec).library].package for spec in specs))


def build_encoders(specs: Mapping[str, StreamSpec], device: "torch.device") -> "Encoders":
    """Build the encoders of some streams.

    Streams that use the same model with the same weights share it. Only the libraries that the
    specs name are imported: they take seconds.

    Args:
        specs: What to build, by stream name.
        device: Where the models run.

    Raises:
        EncoderError: An encoder cannot be built; the message names its spec.
    """
    from sparc.extract.encoders.encoder import Encoders
    from sparc.extract.encoders.patches.encoder import PatchEncoder

    models: dict[Hashable, Any] = {}
    images: dict[str, ImageEncoder] = {}
    texts: dict[str, TextEncoder] = {}
    for name, spec in specs.items():
        whole = _whole(spec)
        library = LIBRARIES[whole.library]
        key = (whole.library, whole.model_key)
        if key not in models:
            models[key] = library.load(whole)
        encoder = library.build(whole, models[key], device)
        if isinstance(spec, PatchSpec):
            encoder = PatchEncoder(spec, cast("ImageEncoder", encoder))
        if spec.modality == "image":
            images[name] = cast("ImageEncoder", encoder)
        else:
            texts[name] = cast("TextEncoder", encoder)
    return Encoders(images, texts)


def _whole(spec: StreamSpec) -> StreamSpec:
    """The spec of the encoder of whole images that a spec builds on: itself, but for patches."""
    return spec.inner if isinstance(spec, PatchSpec) else spec
