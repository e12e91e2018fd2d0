"""`sparc-analyze run` as a function that returns the report, opened to be asked."""

import os
from typing import Any

from sparc.analyze import run as command
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.notebook.report import Report
from sparc.analyze.report.summary_page import small_samples
from sparc.common.cache.reader import ActivationCache
from sparc.common.config import one_config
from sparc.common.files.folder import location_of
from sparc.common.progress import say

Location = str | os.PathLike[str]


def analyze(
    run: Location,
    cache: Location | ActivationCache,
    report: Location,
    config: AnalyzeConfig | None = None,
    *,
    overwrite: bool = False,
    **settings: Any,
) -> Report:
    """Measure a trained model on a cache; see `sparc.analyze.call.AnalyzeStage`."""
    config = one_config(AnalyzeConfig, config, settings, source="sparc.analyze")
    run, cache = location_of(run, "the run"), location_of(cache, "the cache")
    report = location_of(report, "the report")
    command.analyze(run, cache, report, config, overwrite=overwrite)
    opened = Report(report, cache=cache, run=run)
    for line in small_samples([opened]):
        say(line)
    return opened
