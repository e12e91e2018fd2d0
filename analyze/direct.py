"""What the commands `bias`, `name` and `stability` find, from Python and as tables.

The functions do what the commands do, with the same settings by the same names, and write a file
only if `out` says where. This module must not know how anything is found.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from sparc.analyze.bias.associations import BiasTables
from sparc.analyze.bias.command import bias
from sparc.analyze.config import BiasConfig, NameConfig, StabilityConfig
from sparc.analyze.name.word_list import name
from sparc.analyze.report.folder import Report
from sparc.analyze.stability.command import Stability, compare
from sparc.common.config import from_mapping

Location = str | os.PathLike[str]
Config = TypeVar("Config", BiasConfig, NameConfig, StabilityConfig)


def bias_of(
    report: Report | Location, *, attribute: str, against: str = "", **settings: Any
) -> BiasTables:
    """Which latents, and which pairs of them, go with an attribute of images.

        bias_of("report", attribute="words:woman,girl", against="words:man,boy").associations

    Args:
        report: A finished report, or its folder.
        attribute: As for `sparc-analyze bias --attribute`, such as `class:dog`.
        against: A second attribute: images that have exactly one of the two are compared.
        settings: Other fields of `sparc.analyze.config.BiasConfig`, such as `mode`, `q` and `out`.

    Returns:
        The tables `associations` and `pairs`; their columns are in `REPORT.md`.

    Raises:
        SparcError: A setting is unknown, the attribute names what is not there, or all images have
            it or none.
    """
    values = {"attribute": attribute, "against": against, **settings}
    return bias(_opened(report), _config(BiasConfig, values, "bias_of")).tables


def name_latents(report: Report | Location, *, words: Sequence[str], **settings: Any) -> pa.Table:
    """Which words activate each latent most, through a text stream.

        name_latents("report", words=["cat", "sofa"], trust_encoders=True)

    Args:
        report: A finished report, or its folder.
        words: Words or phrases.
        settings: Fields of `sparc.analyze.config.NameConfig`, such as `template`, `names`,
            `trust_encoders` and `out`.

    Returns:
        A line for each latent and each of its words; the columns are in `REPORT.md`.

    Raises:
        SparcError: A setting is unknown, or the encoder or the model cannot be loaded.
    """
    return name(_opened(report), _config(NameConfig, settings, "name_latents"), words)


def stability_of(run: Location, other: Location, **settings: Any) -> Stability:
    """How many of a run's latents another run has found as well.

        stability_of("run", "run-of-another-seed").figures

    Args:
        run: A finished run's folder, a saved model's folder, or a hub repository.
        other: Another one on the same encoders.
        settings: Fields of `sparc.analyze.config.StabilityConfig`: `seed` and `out`.

    Returns:
        The tables `figures` and `matching`, whose columns are in `REPORT.md`, and notes.

    Raises:
        SparcError: A setting is unknown, one of them is no model, or their encoders differ.
    """
    config = _config(StabilityConfig, settings, "stability_of")
    return compare(os.fspath(run), os.fspath(other), config)


def _config(config_class: type[Config], settings: Mapping[str, Any], source: str) -> Config:
    plain = {
        key: os.fspath(value) if isinstance(value, os.PathLike) else value
        for key, value in settings.items()
    }
    return from_mapping(config_class, plain, source=source)


def _opened(report: Report | Location) -> Report:
    return report if isinstance(report, Report) else Report(report)
