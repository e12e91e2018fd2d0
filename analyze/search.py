"""Pictures in the space of one stream that a text, a picture or a row of another one finds.

See `REPORT.md` for the table.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes import CodeSet
from sparc.analyze.config import SearchConfig
from sparc.analyze.inverted_index import open_index
from sparc.analyze.naming import names_of
from sparc.analyze.report import Report
from sparc.analyze.row_table import open_rows
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
        pa.field("own_picture", pa.bool_(), nullable=False),
        pa.field("latents", pa.list_(pa.int32()), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
    ]
)

OWN_PICTURE = "the query's own picture"

_REASONS = 5
"""Latents shown of those that query and row share, the weightiest first."""


class Code(NamedTuple):
    """The code of one query.

    Attributes:
        indices: Its latents, each at most once, (k,).
        values: Their values, zero where not active, (k,) float32.
        row: The row of the cache that it is the code of; None if it comes from elsewhere.
    """

    indices: npt.NDArray[np.integer]
    values: npt.NDArray[np.float32]
    row: int | None = None


class Found(NamedTuple):
    """What a search found.

    Attributes:
        rows: Rows of the cache, one of each picture, by descending score, (n,).
        scores: Cosine of their codes with the query's, (n,) float32.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def best(scores: npt.NDArray[np.float32], of_row: npt.NDArray[np.integer], number: int) -> Found:
    """The pictures with the highest scores, by their best row; equal ones in the order of rows.

    Args:
        scores: By row of the cache, (rows,); rows of score 0 are not found.
        of_row: The picture of every row, (rows,).
        number: How many pictures.
    """
    wanted = 4 * number
    while True:
        rows = _highest(scores, wanted)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        first = np.sort(np.unique(of_row[rows], return_index=True)[1])
        if len(first) >= number or wanted >= len(scores):
            rows = rows[first[:number]]
            return Found(rows, scores[rows])
        wanted *= 4


def _highest(scores: npt.NDArray[np.float32], number: int) -> npt.NDArray[np.int64]:
    """At least so many rows with the highest scores above zero, and all that tie with them."""
    # So many rows at least are as high as that block's maximum which so many maxima reach.
    size = max(1, min(1024, len(scores) // (4 * number)))
    maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), size))
    least = np.partition(maxima, -number)[-number] if number <= len(maxima) else np.float32(0)
    return np.flatnonzero(scores >= least if least > 0 else scores > 0)


class Searcher:
    """A report, opened to be searched often in the space of one stream.

    What is slow happens once, here: the stream's index is built if it is not there yet, the files
    are mapped, the names read. A search then reads what the query's latents have, and the rows
    that it finds.

    Args:
        report: A finished report.
        stream: Where to look; needless where the report has one stream alone.
        cache: Where the report's cache is, if it has moved.

    Raises:
        SparcError: The stream or the cache is not there, or something is damaged.
    """

    def __init__(self, report: Report, stream: str = "", *, cache: str = "") -> None:
        self.report = report
        self.cache = open_cache(report, cache)
        self.stream = stream or _only_stream(report)
        self._index = open_index(report.folder, report.codes, self.stream)
        self._rows = open_rows(report.folder, self.cache)
        named = "naming" in report.tables
        names = names_of(report.table("naming"), "independent", words=1) if named else {}
        self._names = {latent: words for (s, latent), words in names.items() if s == self.stream}

    def find(self, code: Code, *, results: int = 12) -> pa.Table:
        """The pictures whose independent codes are most like a code.

        Args:
            code: Of a text, a picture or a row; see `row_code` and `sparc.analyze.query`.
            results: How many pictures.

        Returns:
            A table of `SCHEMA`.
        """
        found = best(self._index.scores(code.indices, code.values), self._rows.of_row, results)
        reasons = self._reasons(code, found.rows)
        table = self._rows.take(found.rows)
        columns = {
            "rank": np.arange(1, len(found.rows) + 1, dtype=np.int32),
            "score": found.scores,
            "row": found.rows,
            **{name: table[name] for name in table.column_names},
            "own_picture": self._own_picture(code, found.rows),
            "latents": reasons,
            "names": [[w for i in each for w in self._names.get(i, [])] for each in reasons],
        }
        return pa.table(columns, schema=SCHEMA)

    def row_code(self, row: int, stream: str = "") -> Code:
        """The independent code of an analysed row.

        Args:
            row: Row of the cache.
            stream: The stream that reads it; the one that is searched by default.

        Raises:
            ConfigError: There is no such row or stream.
        """
        store, stream = self.report.codes, stream or self.stream
        if not (0 <= row < store.layout.rows and store.valid[row]):
            raise ConfigError(f"{self.report.folder}: row {row} is not there or not analysed")
        if stream not in store.layout.streams:
            raise ConfigError(
                f"{self.report.folder} has no stream {stream!r}; it has "
                f"{', '.join(self.report.info.streams)}"
            )
        chunk = row // store.layout.rows_per_chunk
        codes = store.read(CodeSet("independent"), chunk, streams=(stream,))
        (at,) = np.flatnonzero(codes.rows == row)
        return Code(codes.indices[stream][at], codes.values[stream][at], row)

    def _own_picture(self, code: Code, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows are of the query's own picture."""
        if code.row is None:
            return np.zeros(len(rows), np.bool_)
        own: npt.NDArray[np.bool_] = self._rows.of_row[rows] == self._rows.of_row[code.row]
        return own

    def _reasons(self, code: Code, rows: npt.NDArray[np.int64]) -> list[list[int]]:
        """For each row the latents that it shares with the query, the weightiest first."""
        order = np.argsort(code.indices)
        latents, values = code.indices[order].astype(np.int64), code.values[order]
        weights = self._index.values_at(latents, rows).astype(np.float64) * values[:, None]
        places = np.argsort(-weights, axis=0, kind="stable")[:_REASONS].T
        return [
            [int(latents[place]) for place in line if weight[place] > 0]
            for line, weight in zip(places, weights.T, strict=True)
        ]


def search(report: Report, config: SearchConfig) -> pa.Table:
    """Search a report once.

    Args:
        report: A finished report.
        config: What to look for, and where.

    Returns:
        A table of `SCHEMA`.

    Raises:
        SparcError: A stream, row or file is not there, or the encoder cannot be rebuilt.
    """
    searcher = Searcher(report, config.into, cache=config.cache)
    if config.row is not None:
        code = searcher.row_code(config.row, config.source)
    else:
        code = _encode(searcher, config)
    return searcher.find(code, results=config.results)


def show(found: pa.Table) -> str:
    """The table as plain text."""
    if not len(found):
        return "nothing found: no row shares an active latent with the query"
    lines = [f"{'score':>7}  {'row':>9}  {'picture':<28} {'caption':<44} because of"]
    for row in found.to_pylist():
        picture = shorten(row["image"] or row["sample_id"], 28)
        reasons = ", ".join(dict.fromkeys(row["names"])) or ", ".join(map(str, row["latents"]))
        own = f"{OWN_PICTURE}; " if row["own_picture"] else ""
        lines.append(
            f"{row['score']:>7.3f}  {row['row']:>9}  {picture:<28} "
            f"{shorten(row['caption'] or '', 44):<44} {own}{shorten(reasons, 40)}"
        )
    return "\n".join(lines)


def title(report: Report, config: SearchConfig) -> str:
    """Where was looked, and for what; the former first, since a long text is cut."""
    stream = config.into or _only_stream(report)
    return f"in {stream}: {config.text or str(config.picture or f'row {config.row}')}"


def _encode(searcher: Searcher, config: SearchConfig) -> Code:
    """The code of the text or the picture that is looked for."""
    # Only here: a search by row needs neither a model nor an encoder.
    from sparc.analyze.query import QueryEncoder

    report, cache = searcher.report, searcher.cache
    modality: Modality = "text" if config.text else "image"
    source = config.source or _stream_that_reads(modality, report, cache, searcher.stream)
    model = open_model(report, config.run)
    if source not in model.config.names or source not in cache.stream_names:
        raise ConfigError(f"{report.info.run} and {cache.folder} share no stream {source!r}")
    encoder = QueryEncoder(
        cache, model, source, spec=config.spec, trust_encoders=config.trust_encoders
    )
    query = encoder.texts([config.text]) if config.text else encoder.picture(config.picture_file)
    return Code(query.indices[0], query.values[0])


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
