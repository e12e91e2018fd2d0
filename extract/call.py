"""What makes the package `sparc.extract` a function as well; `sparc.train.call` says why."""

import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparc.common.cache.reader import ActivationCache
    from sparc.extract.config import ExtractConfig


class ExtractStage(ModuleType):
    """The package `sparc.extract`, which can be called."""

    def __call__(
        self,
        dataset: str | os.PathLike[str],
        cache: str | os.PathLike[str],
        config: "ExtractConfig | None" = None,
        *,
        streams: Mapping[str, str] | Sequence[str] = (),
        overwrite: bool = False,
        **settings: Any,
    ) -> "ActivationCache":
        """Encode a dataset into an activation cache, as `sparc-extract run` does.

            cache = sparc.extract("pictures", "cache", streams={"mine": "python:my_models.py"})

        After an interruption the same call continues with the next chunk; where nothing is left to
        do, it opens the cache.

        Args:
            dataset: The dataset's folder or URL, or tar shards as `sparc-extract run` takes them.
            cache: The cache's folder or URL.
            config: All settings in one object.
            streams: The encoders: a spec by stream, or texts as `--stream` takes them.
            overwrite: Remove the cache that the folder holds first, whatever it is of. A folder
                that holds anything else is refused all the same.
            settings: Further settings: fields of `sparc.extract.config.ExtractConfig`, whose names
                are those of the options of `sparc-extract run`.

        Returns:
            The complete cache; with `shard="2/8"`, the cache as far as all shards have made it.

        Raises:
            IncompleteCacheError: On a cluster, a chunk could not be made; the others were.
            SparcError: A setting is unknown or impossible, the dataset cannot be read, an encoder
                cannot be built, or the folder holds something else.
        """
        from sparc.extract.direct import extract

        return extract(dataset, cache, config, streams=streams, overwrite=overwrite, **settings)
