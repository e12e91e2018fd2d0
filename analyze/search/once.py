"""One search, as the settings of `sparc-analyze search` say."""

import pyarrow as pa

from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_table
from sparc.analyze.report.sources import open_cache
from sparc.analyze.report.tables import described
from sparc.analyze.search.config import SearchConfig
from sparc.analyze.search.searcher import Searcher, stream_that_reads
from sparc.common.errors import ConfigError
from sparc.common.images.decoding import ImageError
from sparc.common.images.files import open_image_file
from sparc.common.streams.info import Modality


def open_searcher(report: Report, config: SearchConfig) -> Searcher:
    """A report, opened to be searched.

    What the query names is checked first: building an index or an encoder takes its time.

    Args:
        report: A finished report.
        config: The stream that is searched, and where run and cache are.

    Raises:
        SparcError: The stream or the cache does not exist, or something is damaged.
    """
    _check(report, config)
    return Searcher(
        report,
        config.into,
        cache=config.cache,
        run=config.run,
        specs=config.specs,
        trust_encoders=config.trust_encoders,
    )


def search_once(searcher: Searcher, config: SearchConfig) -> pa.Table:
    """The images that are most like the query.

    Args:
        searcher: From `open_searcher`.
        config: The query.

    Returns:
        A table of `sparc.analyze.search.searcher.SCHEMA`; it has been written to `config.out`, if
        that is given.

    Raises:
        SparcError: A stream, row or file does not exist, or the encoder cannot be built.
    """
    table = _ask(searcher, config)
    if config.out is not None:
        about = searcher.report.about("search", config)
        write_table(config.out, described(table, "search", about))
    return table


def _check(report: Report, config: SearchConfig) -> None:
    """Refuse a query that names what is not there.

    Raises:
        SparcError: A stream, latent or image does not exist, or no stream can read the query.
    """
    for stream in filter(None, (config.into, config.source)):
        report.check_stream(stream)
    if config.latent is not None:
        report.check_latent(config.latent)
    if config.into and not config.source and (config.image is not None or config.text):
        modality: Modality = "image" if config.image is not None else "text"
        stream_that_reads(modality, report, open_cache(report, config.cache), config.into)
    if config.image is not None:
        try:
            open_image_file(config.image)
        except ImageError as error:
            raise ConfigError(f"cannot read the image: {error}") from error


def _ask(searcher: Searcher, config: SearchConfig) -> pa.Table:
    source, results = config.source, config.results
    if config.latent is not None:
        return searcher.latent(config.latent, results=results)
    if config.row is not None:
        return searcher.row(config.row, source=source, results=results)
    if config.image is not None:
        return searcher.image(config.image, source=source, results=results)
    return searcher.text(config.text, source=source, results=results)
