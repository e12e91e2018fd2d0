"""Images in the space of one stream that a text, an image or a row of another one finds.

See `REPORT.md` for the table.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.config import SearchConfig
from sparc.analyze.metrics.naming import names_of
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import open_cache, open_model
from sparc.analyze.search.inverted_index import open_index
from sparc.analyze.search.row_table import open_rows
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError
from sparc.common.streams.info import Modality
from sparc.common.text import shorten

if TYPE_CHECKING:  # a search by row needs neither an encoder nor a model
    from PIL import Image

    from sparc.analyze.search.query import Query, QueryEncoder

SCHEMA = pa.schema(
    [
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("own_image", pa.bool_(), nullable=False),
        pa.field("latents", pa.list_(pa.int32()), nullable=False),
        pa.field("names", pa.list_(pa.string()), nullable=False),
    ]
)

OWN_IMAGE = "the query's own image"

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
        rows: Rows of the cache, one of each image, by descending score, (n,).
        scores: Cosine of their codes with the query's, (n,) float32.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


def best(scores: npt.NDArray[np.float32], of_row: npt.NDArray[np.integer], number: int) -> Found:
    """The images with the highest scores, by their best row; equal ones in the order of rows.

    Args:
        scores: By row of the cache, (rows,); rows of score 0 are not found.
        of_row: The image of every row, (rows,).
        number: How many images.
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
    """The `number` rows with the highest scores above zero, and all that tie with the last."""
    # The n-th largest maximum of a block is a lower bound for the n-th largest score.
    size = max(1, min(1024, len(scores) // (4 * number)))
    maxima = np.maximum.reduceat(scores, np.arange(0, len(scores), size))
    least = np.partition(maxima, -number)[-number] if number <= len(maxima) else np.float32(0)
    return np.flatnonzero(scores >= least if least > 0 else scores > 0)


class Searcher:
    """A report, opened to be searched often in the space of one stream.

        searcher = Searcher("report", "dino", trust_encoders=True)
        searcher.text("a red apple").to_pandas()  # or .image("apple.jpg"), or .row(7)

    What is slow happens once, here: the stream's index is built if it is not there yet, the files
    are mapped, the names read. A search then reads what the query's latents have, and the rows
    that it finds. The model and the encoder of a stream are loaded by the first text or image that
    goes through it.

    `text`, `image`, `row` and `find` return a table of `SCHEMA` with a line an image, the best
    first: `score`, the cosine of the codes; the `row` of the cache with its `sample_id`, `image`
    and `caption`; `latents`, those that weigh most, and their `names`; `own_image`, whether a
    row was looked for and this is its image. See `REPORT.md`.

    Args:
        report: A finished report, or its folder.
        stream: Where to look; needless where the report has one stream alone.
        cache: Where the report's cache is, if it has moved.
        run: Where its run is, if it has moved.
        specs: By stream, the encoder that reads texts or images, instead of the one that the cache
            names.
        trust_encoders: Whether the encoders that the cache names may be loaded. They decide which
            files are read and what the hub is asked for: trust those of a cache of your own.

    Raises:
        SparcError: The stream or the cache is not there, or something is damaged.
    """

    def __init__(
        self,
        report: Report | str | os.PathLike[str],
        stream: str = "",
        *,
        cache: str = "",
        run: str = "",
        specs: Mapping[str, str] | None = None,
        trust_encoders: bool = False,
    ) -> None:
        report = report if isinstance(report, Report) else Report(report)
        self.report = report
        self._run = run
        self._specs = specs or {}
        self._trust_encoders = trust_encoders
        self._encoders: dict[str, QueryEncoder] = {}
        self.cache = open_cache(report, cache)
        self.stream = stream or _only_stream(report)
        self._index = open_index(report.folder, report.codes, self.stream)
        self._rows = open_rows(report.folder, self.cache)
        named = "naming" in report.tables
        names = names_of(report.table("naming"), "independent", words=1) if named else {}
        self._names = {latent: words for (s, latent), words in names.items() if s == self.stream}

    def text(self, text: str, *, source: str = "", results: int = 12) -> pa.Table:
        """The images that a text finds.

        Args:
            text: What to look for.
            source: The stream that reads it; the only one of texts by default.
            results: How many images.

        Raises:
            SparcError: No stream reads texts, or its encoder or the model cannot be loaded.
        """
        return self.find(self.encoder("text", source).texts([text]), results=results)

    def image(
        self,
        image: "str | os.PathLike[str] | Image.Image",
        *,
        source: str = "",
        results: int = 12,
    ) -> pa.Table:
        """The images that are like an image.

        Args:
            image: Its file, or an image of Pillow.
            source: The stream that reads it; by default the one that is searched, or else the only
                one of images.
            results: How many images.

        Raises:
            SparcError: It is no image, no stream reads it, or its encoder or the model cannot be
                loaded.
        """
        return self.find(self.encoder("image", source).image(image), results=results)

    def row(self, row: int, *, source: str = "", results: int = 12) -> pa.Table:
        """The images that are like an analysed row of the cache.

        Args:
            row: Row of the cache.
            source: The stream that reads it; the one that is searched by default.
            results: How many images.

        Raises:
            ConfigError: There is no such row or stream.
        """
        return self.find(self.row_code(row, source), results=results)

    def find(self, code: "Code | Query", *, results: int = 12) -> pa.Table:
        """The images whose independent codes are most like a code.

        Args:
            code: Of a row, a text or an image; see `row_code` and `encoder`.
            results: How many images.

        Raises:
            ConfigError: It holds the codes of several texts.
        """
        code = _single(code)
        found = best(self._index.scores(code.indices, code.values), self._rows.of_row, results)
        reasons = self._reasons(code, found.rows)
        table = self._rows.take(found.rows)
        columns = {
            "rank": np.arange(1, len(found.rows) + 1, dtype=np.int32),
            "score": found.scores,
            "row": found.rows,
            **{name: table[name] for name in table.column_names},
            "own_image": self._own_image(code, found.rows),
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

    def encoder(self, modality: Modality, source: str = "", *, spec: str = "") -> "QueryEncoder":
        """What turns texts or images into codes, through one stream; loaded once.

        Args:
            modality: What it is to read.
            source: The stream; by default the one that is searched, or else the only one that can.
            spec: Its encoder, instead of the one that `specs` or the cache name.

        Raises:
            SparcError: There is no such stream, or its encoder or the model cannot be loaded.
        """
        from sparc.analyze.search.query import QueryEncoder

        stream = source or _stream_that_reads(modality, self.report, self.cache, self.stream)
        if stream not in self._encoders:
            model = open_model(self.report, self._run)
            if stream not in model.config.names or stream not in self.cache.stream_names:
                raise ConfigError(
                    f"{self.report.info.run} and {self.cache.folder} share no stream {stream!r}"
                )
            named = spec or self._specs.get(stream, "")
            self._encoders[stream] = QueryEncoder(
                self.cache, model, stream, spec=named, trust_encoders=self._trust_encoders
            )
        return self._encoders[stream]

    def _own_image(self, code: Code, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which rows are of the query's own image."""
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
    searcher = Searcher(
        report,
        config.into,
        cache=config.cache,
        run=config.run,
        trust_encoders=config.trust_encoders,
    )
    source, results = config.source, config.results
    if config.row is not None:
        return searcher.row(config.row, source=source, results=results)
    modality: Modality = "text" if config.text else "image"
    encoder = searcher.encoder(modality, source, spec=config.spec)
    query = encoder.texts([config.text]) if config.text else encoder.image(config.image_file)
    return searcher.find(query, results=results)


def show(found: pa.Table) -> str:
    """The table as plain text."""
    if not len(found):
        return "nothing found: no row shares an active latent with the query"
    lines = [f"{'score':>7}  {'row':>9}  {'image':<28} {'caption':<44} because of"]
    for row in found.to_pylist():
        image = shorten(row["image"] or row["sample_id"], 28)
        reasons = ", ".join(dict.fromkeys(row["names"])) or ", ".join(map(str, row["latents"]))
        own = f"{OWN_IMAGE}; " if row["own_image"] else ""
        lines.append(
            f"{row['score']:>7.3f}  {row['row']:>9}  {image:<28} "
            f"{shorten(row['caption'] or '', 44):<44} {own}{shorten(reasons, 40)}"
        )
    return "\n".join(lines)


def title(report: Report, config: SearchConfig) -> str:
    """Where was looked, and for what; the former first, since a long text is cut."""
    stream = config.into or _only_stream(report)
    return f"in {stream}: {config.text or str(config.image or f'row {config.row}')}"


def _single(code: "Code | Query") -> Code:
    """The code of one query, also out of a batch of one."""
    if isinstance(code, Code):
        return code
    if len(code.indices) != 1:
        raise ConfigError(f"give the code of one text or image, not of {len(code.indices)}")
    return Code(code.indices[0], code.values[0])


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
