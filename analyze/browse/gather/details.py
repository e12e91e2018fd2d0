"""The page of every latent, from what was gathered of the report."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from sparc.analyze.browse.contents.detail import (
    ClassShare,
    Detail,
    Example,
    Histogram,
    InStream,
    Nearest,
    Neighbour,
    Pair,
    Quantile,
    ShownRow,
    Sprite,
)
from sparc.analyze.browse.contents.index import Mode
from sparc.analyze.browse.extent import extent_of
from sparc.analyze.browse.gather.activity import BINS, Activity
from sparc.analyze.browse.gather.choice import QUANTILES, Choice, Rows, StreamChoice, all_rows
from sparc.analyze.browse.gather.neighbours import Nearest as NearestDirections
from sparc.analyze.browse.gather.rows import ShownRows
from sparc.analyze.browse.gather.tables import Tables
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.show.latent import in_pair, nearest

Integers = npt.NDArray[np.int64]


class DetailMaker:
    """Makes the pages of latents.

    Args:
        evidence: The report.
        concepts: By latent, its line in the table of `concepts`.
        tables: The report's tables.
        activity: What its codes say.
        neighbours: By stream, the nearest decoder rows; empty where the run is not at hand.
        shown: The rows that are shown.
    """

    def __init__(
        self,
        evidence: Evidence,
        concepts: Mapping[int, Mapping[str, Any]],
        tables: Tables,
        activity: Activity,
        neighbours: Mapping[str, NearestDirections],
        shown: ShownRows,
    ) -> None:
        self._evidence, self._concepts, self._tables = evidence, concepts, tables
        self._activity, self._neighbours, self._shown = activity, neighbours, shown
        self._extent = extent_of(tables.latents)

    def detail(
        self, latent: int, choice: Choice, tiles: Mapping[int, int], sprite: Sprite | None
    ) -> Detail:
        """The page of a latent.

        Args:
            latent: Its number.
            choice: The rows that are shown of it.
            tiles: By number of an image, its tile on the sprite sheet.
            sprite: That sheet; None without pictures.
        """
        rows = distinct_rows(choice)
        place = {row: n for n, row in enumerate(rows.tolist())}
        concept = self._concepts.get(latent)
        return Detail(
            latent=latent,
            shared=bool(concept and concept["shared"]),
            only=tuple(concept["only"]) if concept else (),
            lacking=tuple(concept["lacking"]) if concept else (),
            thin=concept["thin"] if concept else self._unlisted(latent),
            modes={
                mode: {
                    stream: self._in_stream(latent, mode, stream, of_stream, place)
                    for stream, of_stream in of_mode.items()
                }
                for mode, of_mode in choice.items()
            },
            rows=self._rows(rows, tiles),
            sprite=sprite,
            pairs=tuple(self._pairs(latent)),
            nearest=tuple(self._elsewhere(latent)),
            cofiring=self._tables.cofiring.get(latent, ()),
            neighbours=tuple(self._neighbours_of(latent)),
        )

    def _unlisted(self, latent: int) -> str:
        """Why `concepts` does not list a latent."""
        if any(images[latent] for images in self._activity.images.values()):
            return "active on no image's first row"
        return "dead where each stream selects on its own"

    def _in_stream(
        self,
        latent: int,
        mode: Mode,
        stream: str,
        choice: StreamChoice,
        place: Mapping[int, int],
    ) -> InStream:
        table = self._tables.of_latents[mode, stream]
        independent = mode == "independent"
        images = int(self._activity.images[stream][latent]) if independent else None
        alike = self._evidence.monosemanticity.get((stream, latent)) if independent else None
        names = self._tables.names.get((mode, stream), {}).get(latent, ())
        alive = table.rows[latent] > 0

        def examples(rows: Rows) -> tuple[Example, ...]:
            pairs = zip(rows.rows.tolist(), rows.values.tolist(), strict=True)
            return tuple(Example(place[row], value) for row, value in pairs)

        return InStream(
            rows=int(table.rows[latent]),
            images=images,
            frequency=float(table.frequency[latent]),
            mean=float(table.mean[latent]) if alive else None,
            largest=float(table.largest[latent]) if alive else None,
            names=names[: self._extent.names[mode]],
            classes=self._classes_of(latent, mode, stream),
            monosemanticity=alike,
            purity=self._tables.purity.get((mode, stream), {}).get(latent),
            histogram=Histogram(
                edges=tuple(np.linspace(0, table.largest[latent], BINS + 1).tolist()),
                counts=tuple(self._activity.streams[mode][stream].counts[latent].tolist()),
                examples=tuple(map(examples, choice.bins)),
            )
            if alive
            else None,
            top=examples(choice.top),
            quantiles=tuple(
                Quantile(at=at, examples=examples(near))
                for at, near in zip(QUANTILES, choice.quantiles, strict=True)
            )
            if alive
            else (),
        )

    def _classes_of(self, latent: int, mode: Mode, stream: str) -> tuple[ClassShare, ...]:
        """The classes that stand out among a latent's labelled rows."""
        counted, labels = self._activity.classes.get(mode), self._evidence.labels
        base = self._evidence.base_rates
        if counted is None or labels is None or base is None:
            return ()
        streams = list(self._activity.streams[mode])
        labelled = int(counted.rows[streams.index(stream), latent])
        if not labelled:
            return ()
        line = counted.carrying[streams.index(stream)][latent]
        columns, counts = line.indices, line.data
        share = counts / labelled
        order = np.lexsort((columns, base[columns] - share))[: self._extent.classes[mode]]
        return tuple(
            ClassShare(
                name=self._tables.classes[labels.class_ids[columns[n]]],
                rows=int(counts[n]),
                share=float(share[n]),
                base=float(base[columns[n]]),
            )
            for n in order
            if share[n] > base[columns[n]]
        )

    def _rows(self, rows: Integers, tiles: Mapping[int, int]) -> tuple[ShownRow, ...]:
        images = self._shown.image_numbers(rows).tolist()
        texts = self._shown.texts(rows)
        return tuple(
            ShownRow(
                row=row,
                sample=text.sample,
                image=text.image,
                caption=text.caption,
                classes=text.classes,
                tile=tiles.get(image, -1),
            )
            for row, image, text in zip(rows.tolist(), images, texts, strict=True)
        )

    def _pairs(self, latent: int) -> Iterator[Pair]:
        for pair in combinations(self._evidence.streams, 2):
            yield Pair(**in_pair(self._evidence, latent, pair)._asdict())

    def _elsewhere(self, latent: int) -> Iterator[Nearest]:
        if len(self._evidence.streams) > 1:
            for other in nearest(self._evidence, latent):
                named = other.latent is not None
                name = self._tables.called(other.other, other.latent or 0) if named else ""
                yield Nearest(name=name, **other._asdict())

    def _neighbours_of(self, latent: int) -> Iterator[Neighbour]:
        for stream, of_stream in self._neighbours.items():
            if not self._tables.of_latents["independent", stream].rows[latent]:
                continue
            pairs = zip(of_stream.latents[latent], of_stream.cosines[latent], strict=True)
            for other, cosine in pairs:
                yield Neighbour(
                    stream=stream,
                    latent=int(other),
                    cosine=float(cosine),
                    name=self._tables.called(stream, int(other)),
                )


def distinct_rows(choice: Choice) -> Integers:
    """The rows of a choice, each once, in the order in which they are shown."""
    rows = np.concatenate(list(all_rows(choice)))
    first = np.sort(np.unique(rows, return_index=True)[1])
    return rows[first]


def shown_rows(choices: Iterable[Choice]) -> Integers:
    """The rows of some choices, ascending."""
    return np.unique(np.concatenate([distinct_rows(choice) for choice in choices]))
