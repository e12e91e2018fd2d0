"""What a finished report was made from, opened again and checked: its cache and its model.

Both may have moved; then the user says where they are, and their digests tell whether they are the
same.
"""

import os
import shlex

from sparc.analyze.codes.subject import digest
from sparc.analyze.report.folder import Report
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, RunError, setting
from sparc.common.files.paths import recorded_here
from sparc.common.files.shipped import located
from sparc.train.loading import load
from sparc.train.model.network import Sparc

Location = str | os.PathLike[str]


def open_cache(report: Report, location: Location = "") -> ActivationCache:
    """The cache that a report was made from.

    Args:
        report: The report.
        location: The cache if it has moved; empty: the recorded place.

    Raises:
        CacheError: It does not exist, or holds other rows or features than those of the report.
    """
    way_out = f"say with {setting('--cache')} where the cache of {report.folder} is"
    where = location or recorded_here(report.info.cache, artefact=report.folder, way_out=way_out)
    try:
        cache = ActivationCache(where)
    except CacheError as error:
        if location:
            raise
        raise CacheError(f"{error}: {way_out}") from error
    if cache.info.manifest_digest != report.info.manifest_digest:
        raise CacheError(
            f"{cache.folder} holds other rows than the cache that {report.folder} was made from: "
            f"say with {setting('--cache')} where that is"
        )
    if stream := stream_with_other_features(report, cache):
        again = shlex.join(
            ["sparc-analyze", "run", report.info.run, str(cache.folder), str(report.folder)]
        )
        raise CacheError(
            f"{cache.folder} holds other features of stream {stream} than when {report.folder} was "
            f"made: measure them with `{again} --overwrite`, or {way_out}"
        )
    return cache


def stream_with_other_features(report: Report, cache: ActivationCache) -> str | None:
    """A stream of which a cache of the same rows holds other features than a report is about.

    Returns:
        None where there is none, as far as both have digests of what made their features.
    """
    for name, recorded in report.info.stream_digests.items():
        stream = cache.streams.get(name)
        if stream is not None and recorded and stream.origin.digest not in ("", recorded):
            return name
    return None


def open_model(report: Report, location: Location = "") -> Sparc:
    """The trained model that a report was made with, on the CPU.

    Args:
        report: The report.
        location: Its run or saved model if it has moved; empty: the recorded place.

    Raises:
        RunError: It does not exist, or is another model.
    """
    way_out = f"say with {setting('--run')} where the run of {report.folder} is"
    given = os.fspath(location) or recorded_here(
        report.info.run, artefact=report.folder, way_out=way_out
    )
    where = located(given, "run")
    if not location and not os.path.exists(where):  # it would be looked for on the hub
        raise RunError(f"{where} is not here: {way_out}")
    try:
        model = load(where)
    except RunError as error:
        if location:
            raise
        raise RunError(f"{error}: {way_out}") from error
    if digest(model) != report.info.model_sha256:
        raise RunError(
            f"{where} is another model than the one that {report.folder} was made with: say with "
            f"{setting('--run')} where that is"
        )
    return model
