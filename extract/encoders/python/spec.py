"""The grammars of specs that name a Python function: in a file or module, or registered."""

import dataclasses
import os
from collections.abc import Hashable, Mapping
from typing import ClassVar, Self
from urllib.parse import quote, urlencode

from sparc.common.files.paths import absolute_if_here, from_home
from sparc.common.streams.info import Modality
from sparc.extract.encoders.spec import (
    MalformedSpecError,
    StreamSpec,
    split_options,
    split_tower,
)

DEFAULT_FUNCTION = "build"
"""What a function is called whose name the spec leaves out."""


@dataclasses.dataclass(frozen=True)
class FunctionSpec(StreamSpec):
    """A function of a user's own, and the options that it is called with.

    Attributes:
        name: What comes before `?`.
        options: As typed, by key.
        tower: What the model reads.
    """

    may_run_transformers: ClassVar[bool] = False

    name: str
    options: tuple[tuple[str, str], ...] = ()
    tower: Modality = "image"

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        before, tower = split_tower(source, default="image")
        name, options = split_options(before, None)
        return cls(name, tuple(options.values.items()), tower)

    @property
    def source(self) -> str:
        """See `StreamSpec.source`."""
        query = urlencode(self.options, quote_via=quote, safe="/:,~@")
        text = "#text" if self.tower == "text" else ""
        return f"{self.name}?{query}{text}" if query else f"{self.name}{text}"

    @property
    def modality(self) -> Modality:
        """See `StreamSpec.modality`."""
        return self.tower

    @property
    def place(self) -> str | None:
        """See `StreamSpec.place`: the function is the user's, its arguments may be anybody's."""
        return self.source.removesuffix("#text") or None

    @property
    def model_key(self) -> Hashable:
        """See `StreamSpec.model_key`."""
        return self


@dataclasses.dataclass(frozen=True)
class PythonSpec(FunctionSpec):
    """A function in a Python file or module.

    Attributes:
        name: `FILE.py:FUNCTION` or `MODULE:FUNCTION`.
        options: As typed, by key.
        tower: What the model reads.
    """

    library: ClassVar[str] = "python"
    grammar: ClassVar[str] = (
        "python:<file.py or module>[:<function>][?<option>=<value>&…][#image|#text]"
    )

    @classmethod
    def parse(cls, source: str) -> Self:
        """See `StreamSpec.parse`."""
        spec = super().parse(source)
        home, colon, function = spec.name.rpartition(":")
        if not colon or not function.isidentifier():
            home, function = spec.name, DEFAULT_FUNCTION
        if not home.endswith(".py") and not all(part.isidentifier() for part in home.split(".")):
            raise MalformedSpecError("it must name a Python file, FILE.py, or a module")
        home = from_home(home) if home.endswith(".py") else home
        return dataclasses.replace(spec, name=f"{home}:{function}")

    @property
    def runs_code(self) -> bool:
        """See `StreamSpec.runs_code`."""
        return True

    @property
    def home(self) -> str:
        """The file or module."""
        return self.name.rpartition(":")[0]

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.name.rpartition(":")[2]

    @property
    def is_file(self) -> bool:
        """Whether the function is in a file, not in a module that Python imports by name."""
        return self.home.endswith(".py")

    def _with_absolute_paths(self) -> Self:
        if not self.is_file or not os.path.isfile(self.home):
            return self
        return dataclasses.replace(self, name=f"{absolute_if_here(self.home)}:{self.function}")


def registered_spec(name: str) -> type[FunctionSpec]:
    """The class of specs of a function that is registered under a name."""
    described: Mapping[str, object] = {
        "__doc__": f"A model that the function registered as {name} gives.",
        "__module__": __name__,
        "library": name,
        "grammar": f"{name}:[<model>][?<option>=<value>&…][#image|#text]",
    }
    return type("RegisteredSpec", (FunctionSpec,), dict(described))
