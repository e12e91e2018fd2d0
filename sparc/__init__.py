"""One dictionary of sparse concepts, shared by several frozen models.

    import sparc

    sparc.write_arrays("cache", {"dino": dino, "clip": clip}, captions=captions, images=files)
    model = sparc.train("cache", "run", latents=1024, k=32)
    report = sparc.analyze("run", "cache-test", "report")

Whatever `__all__` lists is public, as is what the packages of the stages list. The stages are
packages and functions at once: `sparc.train("cache", "run")` does what `sparc-train run` does, and
`from sparc.train import TrainConfig` imports from the package. Importing `sparc` loads neither
PyTorch nor NumPy: a name is imported when it is first used.
"""

from typing import TYPE_CHECKING

try:
    from sparc.common.lazy import lazy_names
except ModuleNotFoundError as error:
    # Python looks into the current folder first, and in a checkout finds this file without the
    # folders that are installed beside it.
    if error.name != "sparc.common":
        raise
    raise ModuleNotFoundError(
        f"{__path__[0]} is SPARC's source and not installed from here: type "
        "`pip install -e .` in its folder, or start Python in another folder",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from sparc.analyze.call import AnalyzeStage
    from sparc.analyze.notebook.report import Report
    from sparc.common.cache.arrays import write_arrays
    from sparc.common.cache.own.writer import CacheWriter
    from sparc.common.cache.reader import ActivationCache
    from sparc.common.errors import SparcError
    from sparc.common.versions import __version__
    from sparc.extract.call import ExtractStage
    from sparc.train.call import TrainStage
    from sparc.train.loading import load
    from sparc.train.model.codes import Codes
    from sparc.train.model.network import Sparc

    # To a type checker these packages are what can be called: a module cannot. Their other names
    # are checked where they are imported: `from sparc.train import align_run`.
    analyze: AnalyzeStage
    extract: ExtractStage
    train: TrainStage
else:
    from sparc import analyze, extract, train

__all__ = [
    "ActivationCache",
    "CacheWriter",
    "Codes",
    "Report",
    "Sparc",
    "SparcError",
    "__version__",
    "analyze",
    "extract",
    "load",
    "train",
    "write_arrays",
]

_HOMES = {
    "__version__": "sparc.common.versions",
    "ActivationCache": "sparc.common.cache.reader",
    "CacheWriter": "sparc.common.cache.own.writer",
    "Codes": "sparc.train.model.codes",
    "Report": "sparc.analyze.notebook.report",
    "Sparc": "sparc.train.model.network",
    "SparcError": "sparc.common.errors",
    "load": "sparc.train.loading",
    "write_arrays": "sparc.common.cache.arrays",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
