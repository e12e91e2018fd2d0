"""Search in the space of one stream, by a text, an image, a row or a latent of any other.

See `REPORT.md` for the table.
"""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.report.folder import Report
from sparc.analyze.report.sources import open_cache, open_model
from sparc.analyze.search.config import QUERIES
from sparc.analyze.search.inverted_index import open_index
from sparc.analyze.search.ranking import best
from sparc.analyze.search.row_table import open_rows
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, setting
from sparc.common.streams.info import Modality
from sparc.common.text import listed

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
"""Latents listed of those that query and row share, those of the largest products first."""


class Code(NamedTuple):
    """The code of one query.

    Attributes:
        indices: Its latents, each at most once, (k,).
        values: Their values, zero where not active, (k,) float32.
        row: The row of the cache that it is the code of; None for a text or an image file.
    """

    indices: npt.NDArray[np.integer]
    values: npt.NDArray[np.float32]
    row: int | None = None


class Searcher:
    """A report, opened to be searched often in the space of one stream.

        searcher = Searcher("report", "dino", trust_encoders=True)
        searcher.text("a red apple").to_pandas()  # or .image("apple.jpg"), .row(7), .latent(42)

    Opening does what is slow: it builds the stream's index if there is none yet, maps the files and
    reads the names. A search then reads the entries of the query's latents and the rows of the
    matches. The first text or image that goes through a stream loads the model and its encoder.

    `text`, `image`, `row`, `latent` and `find` return a table of `SCHEMA` with a line an image, the
    best first: `score`, the cosine of the codes; the `row` of the cache with its `sample_id`,
    `image` and `caption`; `latents`, those that weigh most, and their `names`; `own_image`, whether
    this is the image of the row that was the query. See `REPORT.md`.

    Args:
        report: A finished report, or its folder.
        stream: The stream that is searched; may be left out if the report has only one.
        cache: Where the report's cache is, if it has moved.
        run: Where its run is, if it has moved.
        specs: By stream, the encoder that reads texts or images, instead of the one that the cache
            names; or what `--spec` takes, for the stream that reads the query.
        trust_encoders: Whether the encoders that the cache names may be loaded. It then
            decides which files are read and what the hub is asked for.

    Raises:
        SparcError: The stream or the cache does not exist, or something is damaged.
    """

    def __init__(
        self,
        report: Report | str | os.PathLike[str],
        stream: str = "",
        *,
        cache: str = "",
        run: str = "",
        specs: Mapping[str, str] | Sequence[str] = (),
        trust_encoders: bool = False,
    ) -> None:
        report = report if isinstance(report, Report) else Report(report)
        self.report = report
        self._run = run
        self._specs = specs
        self._trust_encoders = trust_encoders
        self._encoders: dict[str, QueryEncoder] = {}
        self.cache = open_cache(report, cache)
        self.stream = stream or _only_stream(report)
        self._index = open_index(report.folder, report.codes, self.stream)
        self._rows = open_rows(report.folder, self.cache)
        self._names = _first_names(report, self.stream)

    def __repr__(self) -> str:
        return f"Searcher({str(self.report.folder)!r}, {self.stream!r})"

    def text(self, text: str, *, source: str = "", results: int = 12) -> pa.Table:
        """The images that match a text best.

        Args:
            text: The query.
            source: The stream that reads it; the only one of texts by default.
            results: Number of images.

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
            results: Number of images.

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
            results: Number of images.

        Raises:
            ConfigError: There is no such row or stream.
        """
        return self.find(self.row_code(row, source), results=results)

    def latent(self, latent: int, *, results: int = 12) -> pa.Table:
        """The images whose codes are nearest to one latent alone, in the stream that is searched.

        Args:
            latent: Its number.
            results: Number of images.

        Raises:
            ConfigError: There is no such latent.
        """
        self.report.check_latent(latent)
        code = Code(np.array([latent]), np.ones(1, np.float32))
        return self.find(code, results=results)

    def find(self, code: "Code | Query", *, results: int = 12) -> pa.Table:
        """The images whose independent codes are most like a code.

        Args:
            code: Of a row, a text or an image; see `row_code` and `encoder`.
            results: Number of images.

        Raises:
            ConfigError: It holds the codes of several texts.
        """
        code = _single(code)
        scores = self._index.scores(code.indices, code.values)
        rows, scores = best(scores, self._rows.of_row, results)
        reasons = self._reasons(code, rows)
        table = self._rows.take(rows)
        columns = {
            "rank": np.arange(1, len(rows) + 1, dtype=np.int32),
            "score": scores,
            "row": rows,
            **{name: table[name] for name in table.column_names},
            "own_image": self._own_image(code, rows),
            "latents": reasons,
            "names": [[self._names[i] for i in latents if i in self._names] for latents in reasons],
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
        folder, last = self.report.folder, store.layout.rows - 1
        if not 0 <= row <= last:
            raise ConfigError(f"{folder} has no row {row}: its rows are 0 to {last}")
        if not store.valid[row]:
            raise ConfigError(f"{folder}: row {row} was not analysed")
        self.report.check_stream(stream)
        chunk = row // store.layout.rows_per_chunk
        codes = store.read(CodeSet("independent"), chunk, streams=(stream,))
        (at,) = np.flatnonzero(codes.rows == row)
        return Code(codes.indices[stream][at], codes.values[stream][at], row)

    def encoder(self, modality: Modality, source: str = "", *, spec: str = "") -> "QueryEncoder":
        """The encoder from texts or images to codes of one stream; loaded once.

        Args:
            modality: What it is to read.
            source: The stream; by default the one that is searched, or else the only one that can.
            spec: Its encoder, instead of the one that `specs` or the cache name.

        Raises:
            SparcError: There is no such stream, or its encoder or the model cannot be loaded.
        """
        from sparc.analyze.search.query import QueryEncoder

        stream = source or stream_that_reads(modality, self.report, self.cache, self.stream)
        if stream not in self._encoders:
            model = open_model(self.report, self._run)
            if stream not in model.config.names or stream not in self.cache.stream_names:
                raise ConfigError(
                    f"{self.report.info.run} and {self.cache.folder} share no stream {stream!r}"
                )
            self._encoders[stream] = QueryEncoder(
                self.cache,
                model,
                stream,
                spec=spec or self._spec_of(stream),
                trust_encoders=self._trust_encoders,
            )
        return self._encoders[stream]

    def _spec_of(self, stream: str) -> str:
        """The spec that was given by hand for a stream; empty if none was."""
        if isinstance(self._specs, Mapping):
            return self._specs.get(stream, "")
        from sparc.analyze.recorded_encoders import specs_by_stream

        modality = self.cache.streams[stream].modality
        artefact = f"the query of {self.report.folder}"
        return specs_by_stream(self._specs, {stream: modality}, artefact=artefact).get(stream, "")

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


def _single(code: "Code | Query") -> Code:
    """The code of one query, also out of a batch of one."""
    if isinstance(code, Code):
        return code
    if len(code.indices) != 1:
        raise ConfigError(f"give the code of one text or image, not of {len(code.indices)}")
    return Code(code.indices[0], code.values[0])


def _first_names(report: Report, stream: str) -> dict[int, str]:
    """The best name of each latent of a stream that has one."""
    if "naming" not in report.tables:
        return {}
    of_stream = (pc.field("mode") == "independent") & (pc.field("stream") == stream)
    first = report.table("naming").filter(of_stream & (pc.field("rank") == 1))
    return dict(zip(first["latent"].to_pylist(), first["word"].to_pylist(), strict=True))


def _only_stream(report: Report) -> str:
    """The stream that is searched if none is named."""
    if len(report.info.streams) > 1:
        raise ConfigError(
            f"say with {setting('--in', 'stream=')} which stream to search: "
            f"{', '.join(report.info.streams)}"
        )
    return report.info.streams[0]


def stream_that_reads(
    modality: Modality, report: Report, cache: ActivationCache, target: str
) -> str:
    """The stream that reads such a query: the target itself if it can."""
    able = [s for s in report.info.streams if cache.streams[s].modality == modality]
    if target in able:
        return target
    if not able:
        others = [setting(query) for query in QUERIES if query != f"--{modality}"]
        raise ConfigError(
            f"no stream of {report.folder} reads {modality}s: ask with {listed(others, 'or')}"
        )
    if len(able) > 1:
        raise ConfigError(
            f"say with {setting('--from', 'source=')} which stream of {modality}s reads the query "
            f"(there are {', '.join(able)} in {report.folder})"
        )
    return able[0]
