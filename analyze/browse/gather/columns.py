"""The columns of the list of latents.

Sharing is that of `sparc-analyze concepts`, from its own table; all else is of the report's tables,
of independent codes where nothing else is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sparc.analyze.browse.contents import columns as encoded
from sparc.analyze.browse.contents.index import Column, Kind
from sparc.analyze.browse.gather.activity import Activity
from sparc.analyze.browse.gather.tables import NAMES, Tables
from sparc.analyze.concepts.evidence import LEAST_IMAGES
from sparc.common.text import shorten

Floats = npt.NDArray[np.float64]

_WIDEST = 80
"""Characters of a text in the list."""


def list_columns(concepts: pa.Table, tables: Tables, activity: Activity) -> tuple[Column, ...]:
    """All columns, in the order of the list.

    Args:
        concepts: The table of `concepts` with all streams in question: the latents that are active
            on the first row of an image.
        tables: The report's tables.
        activity: What its codes say.
    """
    return tuple(_Columns(concepts, tables).all(activity))


def interest(concepts: pa.Table, tables: Tables) -> Floats:
    """How much there is to see of each latent, (L,): what the list is sorted by at first.

    What it means beyond chance times the logarithm of 1 + its most rows in a stream: the excess of
    agreement, without labels that of overlap, with one stream its monosemanticity; 0 where that is
    not known or not above chance.
    """
    return _Columns(concepts, tables).interest


class _Columns:
    def __init__(self, concepts: pa.Table, tables: Tables) -> None:
        self._concepts, self._tables = concepts, tables
        self._listed = concepts["latent"].to_numpy()
        self._streams = [stream for mode, stream in tables.of_latents if mode == "independent"]
        self._several = len(self._streams) > 1

    def all(self, activity: Activity) -> Iterator[Column]:
        yield from self._of_size()
        if self._several:
            yield from self._of_sharing()
        for stream in self._streams:
            yield from self._of_meaning(stream)
        if self._several:
            yield from self._of_selection(activity)
        yield from self._of_joint()

    @property
    def interest(self) -> Floats:
        rows = np.max([self._rows(stream) for stream in self._streams], axis=0)
        if not self._several:
            meaning = self._floats(f"monosemanticity_{self._streams[0]}")
        elif self._concepts["agreement_excess"].null_count < len(self._concepts):
            meaning = self._floats("agreement_excess")
        else:
            meaning = self._floats("overlap_excess")
        return np.asarray(np.maximum(np.nan_to_num(meaning), 0) * np.log1p(rows))

    @property
    def _interesting(self) -> str:
        if not self._several:
            return "How alike its images are"
        return "How far it means the same in all streams"

    def _of_size(self) -> Iterator[Column]:
        rows = {stream: self._rows(stream) for stream in self._streams}
        most = np.max(list(rows.values()), axis=0)
        frequency = np.max([self._table(s).frequency for s in self._streams], axis=0)
        alive_in = np.sum([of_stream > 0 for of_stream in rows.values()], axis=0)
        yield Column(
            key="interest",
            label="interest",
            help=f"{self._interesting} beyond chance, times the logarithm of its rows: what the "
            "list is sorted by at first.",
            group="size",
            kind="number",
            data=encoded.floats(self.interest),
        )
        yield Column(
            key="rows",
            label="rows",
            help="Rows on which it is active, in the stream where these are most.",
            group="size",
            kind="count",
            data=encoded.counts(most),
        )
        yield Column(
            key="frequency",
            label="frequency",
            help="Their share of all rows.",
            group="size",
            kind="share",
            data=encoded.floats(frequency),
            shown=True,
        )
        yield Column(
            key="alive_in",
            label="alive in",
            help="In how many streams it is active on any row; the others never use it here.",
            group="size",
            kind="count",
            data=encoded.counts(alive_in),
            shown=self._several,
        )
        yield Column(
            key="dead",
            label="dead",
            help="Active in no stream on any of these rows.",
            group="size",
            kind="flag",
            data=encoded.flags(alive_in == 0),
        )
        if self._several:
            for stream, of_stream in rows.items():
                yield Column(
                    key=f"rows:{stream}",
                    label=f"rows in {stream}",
                    help=f"Rows on which it is active in {stream}.",
                    group="size",
                    kind="count",
                    stream=stream,
                    data=encoded.counts(of_stream),
                )
        yield Column(
            key="thin",
            label="too thin",
            help="Why it cannot be judged: in a stream it is active on the first row of fewer than "
            f"{LEAST_IMAGES} images.",
            group="sharing",
            kind="text",
            data=self._texts(self._concepts["thin"].to_pylist()),
        )

    def _of_sharing(self) -> Iterator[Column]:
        yield Column(
            key="shared",
            label="shared",
            help="Every two streams use it for the same images, more than latents of like "
            "frequency do by chance.",
            group="sharing",
            kind="flag",
            data=encoded.flags(self._spread(self._concepts["shared"].to_numpy(), 0)),
            shown=True,
        )
        for key, meaning in (
            ("only", "The stream that alone has it: no other has it, under any number."),
            ("lacking", "The stream that lacks it while all others share it."),
        ):
            yield Column(
                key=key,
                label="only in" if key == "only" else "lacking in",
                help=meaning,
                group="sharing",
                kind="text",
                data=self._texts([", ".join(x) for x in self._concepts[key].to_pylist()]),
            )
        for key, of_what, least in (
            ("agreement", "classes of its rows", "a latent of like frequency"),
            ("overlap", "images on whose first row it is active", "latents of like frequency"),
        ):
            if self._concepts[key].null_count == len(self._concepts):
                continue
            yield Column(
                key=key,
                label=key,
                help=f"How far the {of_what} are the same in the two streams that differ most, "
                f"each selecting on its own: 1 is fully. It must exceed {least}.",
                group="sharing",
                kind="share",
                mode="independent",
                chance=f"{key}_mispaired",
                data=encoded.floats(self._floats(key)),
                shown=key == "agreement",
            )
            yield Column(
                key=f"{key}_mispaired",
                label=f"{key} by chance",
                help=f"The same with {least} instead.",
                group="sharing",
                kind="share",
                mode="independent",
                data=encoded.floats(self._floats(f"{key}_mispaired")),
            )
            yield Column(
                key=f"{key}_excess",
                label=f"{key}, excess",
                help=f"How much of the way from chance to 1 the {key} goes.",
                group="sharing",
                kind="signed",
                mode="independent",
                data=encoded.floats(self._floats(f"{key}_excess")),
            )

    def _of_meaning(self, stream: str) -> Iterator[Column]:
        names = self._tables.names.get(("independent", stream), {})
        if names:
            first = [names.get(latent, ()) for latent in range(self._tables.latents)]
            yield Column(
                key=f"name:{stream}",
                label=f"name in {stream}",
                help=f"Up to {NAMES} words that captions of its strongest images have more often "
                "than others, the best first.",
                group="meaning",
                kind="text",
                stream=stream,
                data=_texts([", ".join(n.word for n in of[:NAMES]) for of in first]),
                shown=True,
            )
            yield Column(
                key=f"guess:{stream}",
                label=f"name in {stream} is a guess",
                help="Fewer than five images support the name.",
                group="meaning",
                kind="flag",
                stream=stream,
                data=encoded.flags([bool(of) and of[0].guess for of in first]),
            )
        purity = self._tables.purity.get(("independent", stream), {})
        if purity:
            of_latents = [purity.get(latent) for latent in range(self._tables.latents)]
            yield Column(
                key=f"class:{stream}",
                label=f"class in {stream}",
                help="The class that most of its labelled rows carry, where they carry it more "
                "often than all rows do.",
                group="meaning",
                kind="text",
                stream=stream,
                data=_texts([p.name if p and p.share > p.base else "" for p in of_latents]),
                shown=not names,
            )
            share, base, lift = np.array(
                [(p.share, p.base, p.lift) if p else (np.nan,) * 3 for p in of_latents]
            ).T
            yield _number(
                "purity",
                "purity",
                "The share of its labelled rows that carry their most frequent class.",
                "share",
                stream,
                share,
            )
            yield _number(
                "base",
                "base rate",
                "The share of all labelled rows that carry it: what purity must exceed.",
                "share",
                stream,
                base,
            )
            yield _number(
                "lift", "lift", "Purity by the base rate of the class.", "number", stream, lift
            )
        alike = self._floats(f"monosemanticity_{stream}")
        if not np.isnan(alike).all():
            yield _number(
                "monosemanticity",
                "alike",
                "How much more alike its images are than any two, as the stream's features see "
                "them (monosemanticity): 0 is chance.",
                "signed",
                stream,
                alike,
            )

    def _of_selection(self, activity: Activity) -> Iterator[Column]:
        for stream in self._streams:
            yield Column(
                key=f"selection_share:{stream}",
                label=f"picked by {stream}",
                help=f"Of the rows that select it jointly, the share on which {stream} selects it "
                "on its own as well: who decides for it.",
                group="stream share",
                kind="share",
                stream=stream,
                data=encoded.floats(activity.selection_share(stream)),
            )

    def _of_joint(self) -> Iterator[Column]:
        for stream in self._streams if self._several else ():
            yield Column(
                key=f"joint_rows:{stream}",
                label=f"joint rows in {stream}",
                help=f"Rows on which it is active in {stream} where all streams select together: "
                "given by construction in part.",
                group="joint",
                kind="count",
                stream=stream,
                mode="joint",
                data=encoded.counts(self._tables.of_latents["joint", stream].rows),
            )

    def _table(self, stream: str) -> Any:
        return self._tables.of_latents["independent", stream]

    def _rows(self, stream: str) -> npt.NDArray[np.int64]:
        return np.asarray(self._table(stream).rows)

    def _floats(self, column: str) -> Floats:
        values = self._concepts[column].cast(pa.float64()).fill_null(np.nan)
        return np.asarray(self._spread(values.to_numpy(), np.nan))

    def _spread(self, values: Any, missing: Any) -> Any:
        """From the latents that `concepts` lists to all, (L,)."""
        result = np.full(self._tables.latents, missing, np.asarray(values).dtype)
        result[self._listed] = values
        return result

    def _texts(self, values: Sequence[str | None]) -> encoded.Texts:
        by_latent: Mapping[int, str | None] = dict(zip(self._listed.tolist(), values, strict=True))
        return _texts([by_latent.get(latent) for latent in range(self._tables.latents)])


def _number(key: str, label: str, meaning: str, kind: Kind, stream: str, data: Any) -> Column:
    return Column(
        key=f"{key}:{stream}",
        label=f"{label} in {stream}",
        help=meaning,
        group="meaning",
        kind=kind,
        stream=stream,
        chance=f"base:{stream}" if key == "purity" else None,
        data=encoded.floats(data),
    )


def _texts(values: Sequence[str | None]) -> encoded.Texts:
    return encoded.texts([shorten(value, _WIDEST) if value else None for value in values])
