"""Names from a list of words: each word is encoded by the text stream and names what it activates.

Unlike names from captions, these need no captions, and a word need not occur in any. See
`REPORT.md` for the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.bias.attribute import read_lines
from sparc.analyze.name.config import NameConfig
from sparc.analyze.recorded_encoders import specs_by_stream
from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_table
from sparc.analyze.report.sources import open_cache, open_model
from sparc.analyze.report.tables import described
from sparc.analyze.search.query import Query, QueryEncoder
from sparc.common.errors import ConfigError, setting

SCHEMA = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("value", pa.float32(), nullable=False),
        pa.field("mean_value", pa.float64(), nullable=False),
        pa.field("z", pa.float64(), nullable=False),
        pa.field("words_active", pa.int64(), nullable=False),
        pa.field("words", pa.int64(), nullable=False),
        pa.field("rows_active", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
    ]
)

_BATCH = 256  # Words encoded at a time.


class Support(NamedTuple):
    """How often the latents of a stream are active in a report, independently selected.

    Attributes:
        rows_active: Rows on which each is active, (latents,).
        rows: Number of analysed rows.
    """

    rows_active: npt.NDArray[np.integer]
    rows: int


def name_by_words(
    report: Report, config: NameConfig, words: Sequence[str] | None = None
) -> pa.Table:
    """Send a word list through a report's text stream.

    Args:
        report: A finished report.
        config: The settings, and the list's file.
        words: The list, instead of a file.

    Returns:
        A table of `SCHEMA`; it has been written to `config.out`, if that is given.

    Raises:
        SparcError: The list, the cache or the model does not exist, or the encoder cannot be
            built.
    """
    words = list(dict.fromkeys(_words_of(config) if words is None else words))
    if not words:
        raise ConfigError(f"{config.words or 'the list'} holds no word")
    cache = open_cache(report, config.cache)
    texts = [s for s in report.info.streams if cache.streams[s].modality == "text"]
    stream = config.source or (texts[0] if len(texts) == 1 else "")
    if not texts:
        raise ConfigError(
            f"no stream of {report.folder} reads texts, so that words cannot name its latents; "
            f"`sparc-analyze concepts {report.folder}` lists them"
        )
    if stream not in texts:
        known = ", ".join(texts)
        raise ConfigError(
            f"say with {setting('--from', 'source=')} which text stream of {report.folder} to use: "
            f"it has {known}"
        )
    specs = specs_by_stream(config.specs, {stream: "text"}, artefact=f"the text of {report.folder}")
    encoder = QueryEncoder(
        cache,
        open_model(report, config.run),
        stream,
        spec=specs.get(stream, ""),
        trust_encoders=config.trust_encoders,
    )
    batches = [
        encoder.texts([config.template.replace("{}", w) for w in words[first : first + _BATCH]])
        for first in range(0, len(words), _BATCH)
    ]
    result = table(stream, words, batches, _support(report, stream), names=config.names)
    if config.out is not None:
        write_table(config.out, described(result, "name", report.about("name", config)))
    return result


def _words_of(config: NameConfig) -> list[str]:
    if config.words is None:
        raise ConfigError("give a file of words with --words")
    return read_lines(config.words)


def table(
    stream: str, words: Sequence[str], codes: Sequence[Query], support: Support, *, names: int
) -> pa.Table:
    """The words that activate each latent most, of schema `SCHEMA`.

    Args:
        stream: The text stream.
        words: The words.
        codes: Their codes, batch after batch.
        support: Of every latent in the stream.
        names: Words a latent gets at most.
    """
    indices = np.concatenate([batch.indices for batch in codes])
    values = np.concatenate([batch.values for batch in codes])
    word = np.repeat(np.arange(len(words)), indices.shape[1])
    active = values.ravel() > 0
    latents = len(support.rows_active)
    shape = (latents, len(words))
    matrix = sparse.csr_matrix(
        (values.ravel()[active].astype(np.float64), (indices.ravel()[active], word[active])), shape
    )
    latent = np.repeat(np.arange(latents), np.diff(matrix.indptr))
    # A latent's values over the whole list, zero where a word does not activate it.
    mean = np.asarray(matrix.sum(axis=1)).ravel() / len(words)
    square = np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel() / len(words)
    spread = np.sqrt(np.maximum(square - mean**2, 0))[latent]
    off = matrix.data - mean[latent]
    z = np.divide(off, spread, out=np.zeros_like(off), where=spread > 1e-9 * matrix.data)
    order = np.lexsort((matrix.indices, -matrix.data, latent))
    rank = np.arange(len(order)) - matrix.indptr[latent]
    order, rank = order[rank < names], rank[rank < names]
    listed = np.array(words, dtype=object)
    columns = {
        "stream": [stream] * len(order),
        "latent": latent[order].astype(np.int32),
        "rank": (rank + 1).astype(np.int32),
        "word": pa.array(listed[matrix.indices[order]], pa.string()),
        "value": matrix.data[order].astype(np.float32),
        "mean_value": mean[latent[order]],
        "z": z[order],
        "words_active": np.diff(matrix.indptr)[latent[order]].astype(np.int64),
        "words": np.full(len(order), len(words)),
        "rows_active": support.rows_active[latent[order]].astype(np.int64),
        "rows": np.full(len(order), support.rows),
    }
    return pa.table(columns, schema=SCHEMA)


def _support(report: Report, stream: str) -> Support:
    """Of independent codes, as those of words are."""
    latents = report.table("latents")
    wanted = pc.and_(pc.equal(latents["mode"], "independent"), pc.equal(latents["stream"], stream))
    own = latents.filter(wanted)
    rows_active = np.zeros(report.info.latents, np.int64)
    rows_active[own["latent"].to_numpy()] = own["rows_active"].to_numpy()
    return Support(rows_active, report.info.rows)
