"""What makes the package `sparc.train` a function as well: `sparc.train("cache", "run", k=32)`.

The stage has one name in imports, on the command line and in Python. A second one for the function
(`fit`, `train_model`) would have to be learnt; a function that hides the package, as
`from sparc.train.direct import train` in `sparc/__init__.py` would, breaks
`import sparc.train as stage`. So the module gets a class that can be called, which the language
allows (*Customizing module attribute access* in its reference).
"""

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparc.common.cache.reader import ActivationCache
    from sparc.train.config import TrainConfig
    from sparc.train.model.network import Sparc


class TrainStage(ModuleType):
    """The package `sparc.train`, which can be called."""

    def __call__(
        self,
        cache: "str | os.PathLike[str] | ActivationCache",
        run: str | os.PathLike[str],
        config: "TrainConfig | None" = None,
        *,
        overwrite: bool = False,
        **settings: Any,
    ) -> "Sparc":
        """Train a model on a cache, as `sparc-train run` does.

            model = sparc.train("cache", "run", latents=1024, k=32, epochs=20)

        After an interruption the same call continues where the last checkpoint was; where the run
        has finished, it returns its model.

        Args:
            cache: An activation cache: its folder or URL, or opened.
            run: The run's folder or URL.
            config: All settings in one object.
            overwrite: Remove the run that the folder holds first, whatever its settings. A folder
                that holds anything else is refused all the same.
            settings: Single settings instead: fields of `sparc.train.TrainConfig`, whose names are
                those of the options of `sparc-train run`.

        Returns:
            The trained model, as `sparc.load` returns it.

        Raises:
            SparcError: A setting is unknown or impossible, the folder holds something else or a run
                with other settings, or training diverged.
        """
        from sparc.train.direct import train

        return train(cache, run, config, overwrite=overwrite, **settings)
