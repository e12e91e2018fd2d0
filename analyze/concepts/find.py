"""Which latents a report's streams share, and which only one of them has or lacks."""

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.bias.attribute import check_both_sides, read_attribute
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.concepts.evidence import LARGEST_Q, LEAST_IMAGES
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.concepts.meaning import with_meaning
from sparc.analyze.concepts.table import build
from sparc.analyze.maths.exact_tests import benjamini_hochberg, upper_tail
from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_any_table
from sparc.analyze.report.tables import described
from sparc.common.errors import ConfigError, setting
from sparc.common.text import shorten

Flags = npt.NDArray[np.bool_]


class Concepts(NamedTuple):
    """Latents that were asked for, and what a reader must know of them.

    Attributes:
        table: A row for each latent, the most telling first; `REPORT.md` describes the columns.
        streams: The report's streams.
        images: Number of images that were compared.
        alive: Number of latents that are active in any stream, whether asked for or not.
        judged: Number of those that are active on enough images in each of `asked`.
        asked: The streams in question: those whose number of images decides whether a latent is
            thin, and whose pairs agreement and overlap are of.
        alone: The stream of `--only`, or the report's only one; else empty.
        unclear: Number of latents of which nobody can tell whether a stream lacks them, where that
            was asked for; see `REPORT.md`.
        meaningless: With `only`: how many latents were left out, since no word and no class goes
            with them beyond chance; 0 where all were asked for.
        shared_untrained: How many latents all streams share in the untrained model; None where
            that was not asked for, or the report does not have its codes.
    """

    table: pa.Table
    streams: tuple[str, ...]
    images: int
    alive: int
    judged: int
    asked: tuple[str, ...]
    alone: str
    unclear: int
    meaningless: int
    shared_untrained: int | None


def concepts(report: Report, config: ConceptsConfig) -> Concepts:
    """Find latents by what streams have in common.

    Args:
        report: A finished report.
        config: Which latents are wanted.

    Returns:
        The latents; the table has been written to `config.out`, if that is given.

    Raises:
        SparcError: A stream, class or word does not exist, or the report's cache is not there.
    """
    return find(Evidence(report, config.cache), config)


def find(evidence: Evidence, config: ConceptsConfig) -> Concepts:
    """The same of a report that was opened before, so that several questions share the work."""
    report = evidence.report
    _check(evidence, config)
    asked = _in_question(evidence.streams, config)
    goes_with_class, class_overlap = _of_class(evidence, asked, config)
    table = build(evidence, asked, class_overlap)
    alive, judged = len(table), table["thin"].null_count
    for stream_list, wanted in (("only", config.only), ("lacking", config.lacking)):
        if wanted:
            table = table.filter(pa.array([wanted in x for x in table[stream_list].to_pylist()]))
    if config.shared:
        table = table.filter(table["shared"])
    if goes_with_class is not None:
        table = table.filter(pa.array(goes_with_class[table["latent"].to_numpy()]))
    if config.word:
        table = table.filter(pc.is_in(table["latent"], pa.array(_named(evidence, config.word))))
    meaningless = 0
    if config.only and not (config.all or config.of_class or config.word):
        clear = with_meaning(evidence, config.only)
        if clear is not None:
            kept = clear[table["latent"].to_numpy()]
            table, meaningless = table.filter(pa.array(kept)), int((~kept).sum())
    alone = asked[0] if len(asked) == 1 else ""
    table = _sorted(table, alone, config)
    if config.out is not None:
        about = report.about("concepts", config)
        write_any_table(config.out, described(table, "concepts", about))
    untrained = evidence.shared_untrained if config.shared else None
    images = len(evidence.activity.rows)
    unclear = _unclear(evidence, config)
    return Concepts(
        table=table,
        streams=evidence.streams,
        images=images,
        alive=alive,
        judged=judged,
        asked=asked,
        alone=alone,
        unclear=unclear,
        meaningless=meaningless,
        shared_untrained=untrained,
    )


def _check(evidence: Evidence, config: ConceptsConfig) -> None:
    """Refuse what the report does not have before anything is measured."""
    streams, where = evidence.streams, evidence.report.folder
    for option, stream in (("--only", config.only), ("--lacking", config.lacking)):
        if stream and stream not in streams:
            raise ConfigError(
                f"{where} has no stream {stream!r} for {setting(option)}; it has "
                f"{', '.join(streams)}"
            )
    if (config.shared or config.only) and len(streams) < 2:
        raise ConfigError(f"{where} has one stream, {streams[0]}: nothing to compare it with")
    if config.lacking and len(streams) < 3:
        other = next((s for s in streams if s != config.lacking), "")
        advice = f": ask with {setting(f'--only {other}', f'only={other!r}')}" if other else ""
        raise ConfigError(
            f"{setting('--lacking')} needs two streams beside {config.lacking}{advice}"
        )
    if config.word and "naming" not in evidence.report.tables:
        evidence.report.table("naming")  # says why it is missing
    if config.of_class and evidence.labels is None:
        raise ConfigError(
            f"{evidence.cache.folder} has no classes: leave {setting('--class', 'of_class=')} out"
        )


def _in_question(streams: tuple[str, ...], config: ConceptsConfig) -> tuple[str, ...]:
    """The streams that must have the latents."""
    if config.only:
        return (config.only,)
    return tuple(stream for stream in streams if stream != config.lacking)


def _unclear(evidence: Evidence, config: ConceptsConfig) -> int:
    """How many latents may be lacking or not, as far as these images show."""
    if config.only:
        others = [stream for stream in evidence.streams if stream != config.only]
        pairs = [(config.only, other) for other in others]
        asked = evidence.activity.images(config.only) >= LEAST_IMAGES
    elif config.lacking:
        others = [stream for stream in evidence.streams if stream != config.lacking]
        pairs = [(other, config.lacking) for other in others]
        asked = evidence.sharing.shared_by(tuple(others))
    else:
        return 0
    unknown = [np.isnan(evidence.sharing.elsewhere[pair].limit) for pair in pairs]
    return int((asked & np.any(unknown, axis=0)).sum())


def _of_class(
    evidence: Evidence, asked: Sequence[str], config: ConceptsConfig
) -> tuple[Flags | None, npt.NDArray[np.float64] | None]:
    """Which latents go with the class in a stream, and the largest overlap with its images."""
    if not config.of_class:
        return None, None
    attribute = read_attribute(f"class:{config.of_class}", evidence.cache, evidence.images)
    check_both_sides(attribute)
    activity = evidence.activity
    of_image = evidence.images.of_row[activity.rows]
    known = attribute.known[of_image]
    held = attribute.held[of_image].astype(np.int64)
    goes, overlaps = [], []
    for stream in asked:
        active: Any = activity.active[stream]
        both, count = active @ held, active @ known.astype(np.int64)
        p = upper_tail(both, int(known.sum()), count, int(held.sum()))
        q = np.ones(len(p))
        tested = count >= LEAST_IMAGES
        q[tested] = benjamini_hochberg(p[tested])
        goes.append(q <= LARGEST_Q)
        overlaps.append(both / np.maximum(count + held.sum() - both, 1))
    return np.any(goes, axis=0), np.max(overlaps, axis=0)


def _named(evidence: Evidence, word: str) -> list[int]:
    """The latents that have a word among their names in any stream."""
    called = evidence.names
    wanted = word.casefold()
    latents = {latent for (_, latent), words in called.items() if wanted in {n.word for n in words}}
    if not latents:
        known = sorted({n.word for words in called.values() for n in words})
        near = (
            difflib.get_close_matches(wanted, known, n=3) or [w for w in known if wanted in w][:3]
        )
        shown = ", ".join(shorten(w, 30) for w in near)
        raise ConfigError(
            f"no latent of {evidence.report.folder} is named {word!r}"
            + (f"; similar names: {shown}" if near else "; a name is one word of the captions")
        )
    return sorted(latents)


def _sorted(table: pa.Table, alone: str, config: ConceptsConfig) -> pa.Table:
    """The most telling latents first, those that are too thin last.

    Of the latents that only one stream has, those without a name in it follow those with one.
    """
    if config.of_class:
        by = "class_overlap"
    elif alone:
        by = f"monosemanticity_{alone}"
    else:
        by = "overlap_excess"
    value = np.nan_to_num(table[by].to_numpy(), nan=-np.inf)
    thin = np.asarray(table["thin"].is_valid())
    nameless = np.zeros(len(table), np.bool_)
    if config.only:
        nameless = np.asarray(table[f"name_{config.only}"].is_null())
    return table.take(np.lexsort((table["latent"].to_numpy(), -value, nameless, thin)))
