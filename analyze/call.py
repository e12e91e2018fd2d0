"""What makes the package `sparc.analyze` a function as well; `sparc.train.call` says why."""

import os
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparc.analyze.config import AnalyzeConfig
    from sparc.analyze.notebook.report import Report
    from sparc.common.cache.reader import ActivationCache


class AnalyzeStage(ModuleType):
    """The package `sparc.analyze`, which can be called."""

    def __call__(
        self,
        run: str | os.PathLike[str],
        cache: "str | os.PathLike[str] | ActivationCache",
        report: str | os.PathLike[str],
        config: "AnalyzeConfig | None" = None,
        *,
        overwrite: bool = False,
        **settings: Any,
    ) -> "Report":
        """Measure a trained model on a cache, and write a report, as `sparc-analyze run` does.

            report = sparc.analyze("run", "cache-test", "report")

        After an interruption the same call continues where it stopped; where the report is
        finished, it opens it.

        Args:
            run: A finished run's folder, a saved model's folder, or a hub repository.
            cache: An activation cache, usually not the one that was trained on.
            report: The report's folder or URL.
            config: All settings in one object.
            overwrite: Remove the report that the folder holds first, whatever it is about. A folder
                that holds anything else is refused all the same.
            settings: Single settings instead: fields of `sparc.analyze.AnalyzeConfig`, whose names
                are those of the options of `sparc-analyze run`.

        Returns:
            The finished report, opened to be asked.

        Raises:
            SparcError: A setting is unknown or impossible, run and cache do not go together, the
                report is on something else, another process writes to it, or a file is damaged.
        """
        from sparc.analyze.notebook.analyze import analyze

        return analyze(run, cache, report, config, overwrite=overwrite, **settings)
