"""One search, as the settings of `sparc-analyze search` say."""

import pyarrow as pa

from sparc.analyze.report.folder import Report
from sparc.analyze.report.output import write_table
from sparc.analyze.report.tables import described
from sparc.analyze.search.config import SearchConfig
from sparc.analyze.search.searcher import Searcher


def open_searcher(report: Report, config: SearchConfig) -> Searcher:
    """A report, opened to be searched.

    Args:
        report: A finished report.
        config: The stream that is searched, and where run and cache are.

    Raises:
        SparcError: The stream or the cache does not exist, or something is damaged.
    """
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


def _ask(searcher: Searcher, config: SearchConfig) -> pa.Table:
    source, results = config.source, config.results
    if config.latent is not None:
        return searcher.latent(config.latent, results=results)
    if config.row is not None:
        return searcher.row(config.row, source=source, results=results)
    if config.image is not None:
        return searcher.image(config.image, source=source, results=results)
    return searcher.text(config.text, source=source, results=results)
