"""A finished report that can be asked: the commands on a report as its methods.

They take the settings of the commands by the same names. Tables are of pandas where that is
installed, else of Arrow. This module must not know how anything is computed.
"""

import operator
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from sparc.analyze import direct
from sparc.analyze.browse.build import browse
from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.concepts.find import find
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.notebook.frames import frame
from sparc.analyze.notebook.latent import LatentView
from sparc.analyze.report import folder
from sparc.analyze.search.searcher import Searcher
from sparc.analyze.show.latent import latent as facts_of
from sparc.common.config import settings_from
from sparc.common.errors import ConfigError
from sparc.common.files.paths import recorded_here
from sparc.common.text import shorten

if TYPE_CHECKING:
    from PIL import Image

    from sparc.analyze.localize.localizer import Localizer, Located

Location = str | os.PathLike[str]


def _whole(number: Any, what: str) -> int:
    """The number of a latent or row, as NumPy, pandas and Arrow give it too.

    Raises:
        ConfigError: It is something else.
    """
    try:
        # Arrow's own numbers are none to Python before its release 21.
        return operator.index(number.as_py() if hasattr(number, "as_py") else number)
    except TypeError as error:
        shown = shorten(repr(number), 60)
        raise ConfigError(f"{what} must be a whole number, such as 42, not {shown}") from error


class BiasFrames(NamedTuple):
    """What goes with an attribute; the columns are in `REPORT.md`.

    Attributes:
        associations: The latents.
        pairs: The pairs of latents.
    """

    associations: Any
    pairs: Any

    def __repr__(self) -> str:
        return (
            f"BiasFrames(associations: {len(self.associations):,} rows, pairs: "
            f"{len(self.pairs):,} rows)"
        )


class Report(folder.Report):
    """A finished report, opened to be read and to be asked.

        report = sparc.Report("report")
        report.concepts(shared=True)
        report.latent(42)
        report.search(row=7, stream="dino")

    Args:
        location: The report's folder or URL; or `demo`, a small report that ships with the package.
        cache: Where the report's cache is, if it has moved.
        run: Where its run is, if it has moved.
        dataset: Where the images of its cache are, if they have moved.

    Raises:
        ReportError: There is no report, or it has not been finished.
    """

    def __init__(
        self,
        location: Location,
        *,
        cache: Location = "",
        run: Location = "",
        dataset: Location = "",
    ) -> None:
        super().__init__(location)
        self._cache, self._run = os.fspath(cache), os.fspath(run)
        self._dataset = os.fspath(dataset)
        self._searchers: dict[tuple[Any, ...], Searcher] = {}
        self._localizers: dict[LocalizeConfig, Localizer] = {}

    def __repr__(self) -> str:
        info = self.info
        return (
            f"Report({str(self.folder)!r}: {info.rows:,} rows, {info.latents:,} latents of "
            f"{', '.join(info.streams)}; tables {', '.join(self.tables)})"
        )

    @cached_property
    def _evidence(self) -> Evidence:
        return Evidence(self, self._cache)

    @cached_property
    def latents(self) -> Any:
        """Every latent that is active in any stream, a row each: what `concepts()` gives."""
        return self.concepts()

    def concepts(
        self, *, shared: bool = False, only: str = "", lacking: str = "", **settings: Any
    ) -> Any:
        """The latents that streams share, or that only one of them has or lacks.

            report.concepts(lacking="dino")  # what all the others share and DINO lacks

        Args:
            shared: Only latents that all streams share.
            only: Only latents of this stream that no other stream has, and that a word or class
                goes with; `all=True` for the others as well.
            lacking: Only latents that all streams but this one share.
            settings: Other options of `sparc-analyze concepts`: `of_class`, `word`, `all`, `out`;
                and `limit`, the number of latents, by default all.

        Returns:
            A row for each latent, the most telling first; `REPORT.md` has definitions and columns.

        Raises:
            SparcError: A stream, class or word does not exist, or the report's cache is not there.
        """
        wanted = {"shared": shared, "only": only, "lacking": lacking, **settings}
        config = settings_from(ConceptsConfig, wanted, source="report.concepts")
        table = find(self._evidence, config).table
        return frame(table.slice(0, config.limit or None) if "limit" in settings else table)

    def latent(self, number: int) -> LatentView:
        """All that is known of a latent: what `sparc-analyze show --latent` shows.

        Args:
            number: The latent.

        Raises:
            SparcError: There is no such latent, or the report's cache is not there.
        """
        return LatentView(
            facts_of(self._evidence, _whole(number, "latent")), self._evidence.cache, self._dataset
        )

    def browse(self, site: Location, **settings: Any) -> str:
        """Make pages that show what latents stand for: what `sparc-analyze browse` makes.

            report.browse("report-site")  # a folder; open its index.html in a browser

        Args:
            site: The site's folder.
            settings: Options of `sparc-analyze browse`, such as `size` and `overwrite`.

        Returns:
            The page to open.

        Raises:
            SparcError: A setting is unknown, the folder holds something else, or the report's cache
                is not there.
        """
        places = {"cache": self._cache, "run": self._run, "dataset": self._dataset}
        config = settings_from(BrowseConfig, {**places, **settings}, source="report.browse")
        return browse(self, site, config).start

    def search(
        self,
        text: str | None = None,
        *,
        image: "Location | Image.Image | None" = None,
        row: int | None = None,
        latent: int | None = None,
        stream: str = "",
        source: str = "",
        results: int = 12,
        specs: Mapping[str, str] | Sequence[str] = (),
        trust_encoders: bool = False,
    ) -> Any:
        """The images that match a text, an image, a row or a latent best, in one stream's space.

            report.search("a red apple", stream="dino", trust_encoders=True)
            report.search(row=7, stream="dino")

        Args:
            text: The query; or else one of the next three.
            image: An image file, or an image of Pillow.
            row: A row of the report's cache.
            latent: A latent.
            stream: The stream that is searched; may be left out if the report has only one.
            source: The stream that reads the query; chosen by what the query is if left out.
            results: Number of images.
            specs: By stream, the encoder that reads the query, instead of the recorded one.
            trust_encoders: Whether the encoders that the cache names may be loaded.

        Returns:
            A row for each image, the best first; `REPORT.md` has the columns.

        Raises:
            SparcError: The query is missing or not one, or a stream or its encoder is not there.
        """
        queries = {"text": text, "image": image, "row": row, "latent": latent}
        given = [name for name, query in queries.items() if query is not None]
        if len(given) != 1:
            what = f"not {' and '.join(given)}" if given else "nothing was given"
            raise ConfigError(f"search for one text, image=…, row=… or latent=…: {what}")
        searcher = self._searcher(stream, specs, trust_encoders)
        if latent is not None:
            return frame(searcher.latent(_whole(latent, "latent"), results=results))
        if row is not None:
            return frame(searcher.row(_whole(row, "row"), source=source, results=results))
        if image is not None:
            return frame(searcher.image(image, source=source, results=results))
        assert text is not None
        return frame(searcher.text(text, source=source, results=results))

    def localize(
        self,
        image: Location,
        text: str | None = None,
        *,
        latent: int | None = None,
        **settings: Any,
    ) -> "dict[str, Located]":
        """Where in an image a text or a latent is.

            report.localize("photo.jpg", "the cat", trust_encoders=True)["dino"].map

        Args:
            image: The image's file.
            text: The text; or else a latent.
            latent: The latent.
            settings: Options of `sparc-analyze localize`: `trust_encoders`, `specs`, `method`,
                `target`, `mode`, …; `cache` may name another cache to compare with.

        Returns:
            By image stream, a map over the image and whether the query is in the image at all.

        Raises:
            SparcError: There is no image, no stream reads texts, or an encoder cannot be loaded.
        """
        from sparc.analyze.localize.localizer import Localizer

        if (text is None) == (latent is None):
            raise ConfigError("localize one text or latent=…")
        wanted = {"cache": self._evidence.cache.folder.location, **settings}
        config = settings_from(LocalizeConfig, wanted, source="report.localize")
        if config not in self._localizers:
            where = self._run or recorded_here(
                self.info.run,
                artefact=self.folder,
                way_out=f"say where the run is: sparc.Report({str(self.folder)!r}, run=…)",
            )
            self._localizers[config] = Localizer.open(where, config)
        localizer = self._localizers[config]
        if text is not None:
            return localizer.text(image, text)
        assert latent is not None
        return localizer.latent(image, _whole(latent, "latent"))

    def bias(self, attribute: str, *, against: str = "", **settings: Any) -> BiasFrames:
        """Which latents, and which pairs of them, go with an attribute of images.

            report.bias("words:woman,girl", against="words:man,boy").associations

        Args:
            attribute: As for `sparc-analyze bias --attribute`, such as `class:dog`.
            against: A second attribute: images that have exactly one of the two are compared.
            settings: Other options of `sparc-analyze bias`.

        Raises:
            SparcError: A setting is unknown, the attribute names something that does not exist, or
                all images have it, or none.
        """
        settings = {"cache": self._cache, **settings}
        tables = direct.bias_of(self, attribute=attribute, against=against, **settings)
        return BiasFrames(*map(frame, tables))

    def name(self, words: Sequence[str], **settings: Any) -> Any:
        """Which words activate each latent most, through a text stream.

            report.name(["cat", "sofa"], trust_encoders=True)

        Args:
            words: Words or phrases.
            settings: Options of `sparc-analyze name`.

        Raises:
            SparcError: A setting is unknown, or the encoder or the model cannot be loaded.
        """
        settings = {"cache": self._cache, "run": self._run, **settings}
        return frame(direct.name_latents(self, words=words, **settings))

    def _searcher(
        self, stream: str, specs: Mapping[str, str] | Sequence[str], trust_encoders: bool
    ) -> Searcher:
        """The searcher of a stream, which stays open."""
        key = (stream, repr(specs), trust_encoders)
        if key not in self._searchers:
            self._searchers[key] = Searcher(
                self,
                stream,
                cache=self._cache,
                run=self._run,
                specs=specs,
                trust_encoders=trust_encoders,
            )
        return self._searchers[key]
