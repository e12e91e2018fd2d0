"""Pictures in the space of one stream that a text, a picture or a row of another one finds.

See `REPORT.md` for the table.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes import CodeSet
from sparc.analyze.config import SearchConfig
from sparc.analyze.inverted_index import InvertedIndex, open_index
from sparc.analyze.naming import names_of
from sparc.analyze.pictures import Pictures, read_pictures
from sparc.analyze.report import Report
from sparc.analyze.sources import open_cache, open_model
from sparc.common.cache import ActivationCache
from sparc.common.errors import ConfigError
from sparc.common.streams import Modality
from sparc.common.text import shorten

SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("latents", pa.list_(pa.int32()), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
    ]
)

_REASONS = 5
"""Latents shown of those that query and row share, the weightiest first."""


class Found(NamedTuple):
    """What a search found.

    Attributes:
        rows: Rows of the cache, one of each picture, by descending score, (n,).
        scores: Cosine of their codes with the query's, (n,) float32.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def best(scores: npt.NDArray[np.float32], pictures: Pictures, number: int) -> Found:
    """The pictures with the highest scores, by their best row; equal ones in the order of rows.

    Args:
        scores: By row of the cache, (rows,); rows of score 0 are not found.
        pictures: The pictures of the rows.
        number: How many pictures.
    """
    candidates = np.flatnonzero(scores > 0)
    taken = min(len(candidates), 4 * number)
    while True:
        rows = candidates
        if taken < len(candidates):
            # All that tie with the last one come along, so that the first of them can win.
            least = np.partition(scores[candidates], len(candidates) - taken)[-taken]
            rows = candidates[scores[candidates] >= least]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        first = np.sort(np.unique(pictures.of_row[rows], return_index=True)[1])
        if len(first) >= number or taken >= len(candidates):
            rows = rows[first[:number]]
            return Found(rows, scores[rows])
        taken = min(len(candidates), 4 * taken)


def search(report: Report, config: SearchConfig) -> pa.Table:
    """Search a report.

    Args:
        report: A finished report.
        config: What to look for, and where.

    Returns:
        A table of `SCHEMA`.

    Raises:
        SparcError: A stream, row or file is not there, or the encoder cannot be rebuilt.
    """
    cache = open_cache(report, config.cache)
    target = config.into or _only_stream(report)
    index = open_index(report.folder, report.codes, target)
    indices, values = _query(report, cache, config, target)
    pictures = read_pictures(cache.rows(["sample_id"])["sample_id"], report.codes.valid)
    found = best(index.scores(indices, values), pictures, config.results)
    named = "naming" in report.tables
    names = names_of(report.table("naming"), "independent", words=1) if named else {}
    table = cache.rows(["sample_id", "image", "caption"]).take(pa.array(found.rows))
    reasons = [_reasons(index, indices, values, int(row)) for row in found.rows]
    columns = {
        "rank": np.arange(1, len(found.rows) + 1, dtype=np.int32),
        "score": found.scores,
        "row": found.rows,
        **{name: table[name] for name in table.column_names},
        "latents": reasons,
        "names": [[w for i in each for w in names.get((target, i), [])] for each in reasons],
    }
    return pa.table(columns, schema=SCHEMA)


def show(found: pa.Table) -> str:
    """The table as plain text."""
    if not len(found):
        return "nothing found: no row shares an active latent with the query"
    lines = [f"{'score':>7}  {'row':>9}  {'picture':<28} {'caption':<44} because of"]
    for row in found.to_pylist():
        picture = shorten(row["image"] or row["sample_id"], 28)
        reasons = ", ".join(dict.fromkeys(row["names"])) or ", ".join(map(str, row["latents"]))
        lines.append(
            f"{row['score']:>7.3f}  {row['row']:>9}  {picture:<28} "
            f"{shorten(row['caption'] or '', 44):<44} {shorten(reasons, 40)}"
        )
    return "\n".join(lines)


def _query(
    report: Report, cache: ActivationCache, config: SearchConfig, target: str
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
    if config.row is not None:
        store = report.codes
        if not (0 <= config.row < store.layout.rows and store.valid[config.row]):
            raise ConfigError(f"{report.folder}: row {config.row} is not there or not analysed")
        source = config.source or target
        if source not in store.layout.streams:
            raise ConfigError(
                f"{report.folder} has no stream {source!r}; it has {', '.join(report.info.streams)}"
            )
        codes = store.read(
            CodeSet("independent"), config.row // store.layout.rows_per_chunk, streams=(source,)
        )
        (at,) = np.flatnonzero(codes.rows == config.row)
        return codes.indices[source][at], codes.values[source][at]
    # Only here: reading a row's code needs neither PyTorch's models nor an encoder.
    from sparc.analyze.query import QueryEncoder

    modality: Modality = "text" if config.text else "image"
    source = config.source or _stream_that_reads(modality, report, cache, target)
    model = open_model(report, config.run)
    if source not in model.config.names or source not in cache.stream_names:
        raise ConfigError(f"{report.info.run} and {cache.folder} share no stream {source!r}")
    encoder = QueryEncoder(cache, model, source, spec=config.spec)
    query = encoder.texts([config.text]) if config.text else encoder.picture(config.picture_file)
    return query.indices[0], query.values[0]


def _only_stream(report: Report) -> str:
    if len(report.info.streams) > 1:
        raise ConfigError(f"say with --in where to look: {', '.join(report.info.streams)}")
    return report.info.streams[0]


def _stream_that_reads(
    modality: Modality, report: Report, cache: ActivationCache, target: str
) -> str:
    """The stream that a query of that kind goes through: the target itself if it can."""
    able = [s for s in report.info.streams if cache.streams[s].modality == modality]
    if target in able:
        return target
    if len(able) != 1:
        which = f"there are {', '.join(able)}" if able else "there is none"
        raise ConfigError(
            f"say with --from which stream of {modality}s reads the query ({which} in "
            f"{report.folder})"
        )
    return able[0]


def _reasons(
    index: InvertedIndex,
    indices: npt.NDArray[np.integer],
    values: npt.NDArray[np.float32],
    row: int,
) -> list[int]:
    shared = [
        (-index.value(int(latent), row) * float(value), int(latent))
        for latent, value in zip(indices, values, strict=True)
    ]
    return [latent for weight, latent in sorted(shared) if weight < 0][:_REASONS]
