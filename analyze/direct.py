"""The commands `bias`, `name` and `stability` as functions that return tables.

They take the settings of the commands by the same names, and write a file only if `out` says where.
This module must not know how anything is computed.
"""

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sparc.analyze.bias.associations import BiasTables
from sparc.analyze.bias.command import bias
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.name.config import NameConfig
from sparc.analyze.name.word_list import name_by_words
from sparc.analyze.report.folder import Report
from sparc.analyze.stability.compare import Stability, compare
from sparc.analyze.stability.config import StabilityConfig
from sparc.common.config import settings_from

Location = str | os.PathLike[str]


def bias_of(
    report: Report | Location, *, attribute: str, against: str = "", **settings: Any
) -> BiasTables:
    """Which latents, and which pairs of them, go with an attribute of images.

        bias_of("report", attribute="words:woman,girl", against="words:man,boy").associations

    Args:
        report: A finished report, or its folder.
        attribute: As for `sparc-analyze bias --attribute`, such as `class:dog`.
        against: A second attribute: images that have exactly one of the two are compared.
        settings: Other fields of `sparc.analyze.bias.config.BiasConfig`, such as `mode`, `q` and
            `out`.

    Returns:
        The tables `associations` and `pairs`; their columns are in `REPORT.md`.

    Raises:
        SparcError: A setting is unknown, the attribute names something that does not exist, or all
            images have it, or none.
    """
    values = {"attribute": attribute, "against": against, **settings}
    config = settings_from(BiasConfig, values, source="bias_of")
    return bias(_opened(report), config).tables


def name_latents(report: Report | Location, *, words: Sequence[str], **settings: Any) -> pa.Table:
    """Which words activate each latent most, through a text stream.

        name_latents("report", words=["cat", "sofa"], trust_encoders=True)

    Args:
        report: A finished report, or its folder.
        words: Words or phrases.
        settings: Fields of `sparc.analyze.name.config.NameConfig`, such as `template`, `names`,
            `specs`, `trust_encoders` and `out`.

    Returns:
        A row for each latent and each of its words; the columns are in `REPORT.md`.

    Raises:
        SparcError: A setting is unknown, or the encoder or the model cannot be loaded.
    """
    config = settings_from(NameConfig, settings, source="name_latents")
    return name_by_words(_opened(report), config, words)


def stability_of(run: Location, other: Location, **settings: Any) -> Stability:
    """How many of a run's latents another run has as well.

        stability_of("run", "run-of-another-seed").figures

    Args:
        run: A finished run's folder, a saved model's folder, or a hub repository.
        other: Another one on the same encoders.
        settings: Fields of `sparc.analyze.stability.config.StabilityConfig`: `seed` and `out`.

    Returns:
        The tables `figures` and `matching`, whose columns are in `REPORT.md`, and notes.

    Raises:
        SparcError: A setting is unknown, one of them is no model, or their encoders differ.
    """
    config = settings_from(StabilityConfig, settings, source="stability_of")
    return compare(os.fspath(run), os.fspath(other), config)


def _opened(report: Report | Location) -> Report:
    return report if isinstance(report, Report) else Report(report)
