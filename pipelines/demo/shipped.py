"""Makes what ships with the package, `sparc/demo`, from a finished demo.

After `make demo`:  .venv/bin/python -m sparc.pipelines.demo.shipped demo

It is the run of the demo's model `sparc`, with its weights in float16; a cache of the held-out
scenes: their features as they were encoded, small pictures, captions and classes; and a report on
both. Records name the demo's folders as `demo/…`, wherever it lies, so that run and cache get the
same bytes from the same demo.
"""

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from sparc.analyze.measures.agreement import EXCESS, VALUE
from sparc.analyze.measures.reconstruction import NMSE_CROSS
from sparc.analyze.measures.retrieval import R_AT_1
from sparc.analyze.notebook.report import Report
from sparc.analyze.run import analyze
from sparc.common.cache import tables
from sparc.common.cache.manifest import Manifest
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.own_images import write_thumbnails
from sparc.common.cache.writer import ChunkWriter
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import NAME, shipped_folder
from sparc.common.progress import say
from sparc.common.streams.info import StreamInfo
from sparc.train.loading import load
from sparc.train.model.card import ModelCard, render_card
from sparc.train.model.files import WEIGHTS_FILE, write_weights
from sparc.train.run.run_folder import INITIAL_FILE, METRICS_FILE, RunRecord

SIDE = 96
"""Longest side of their pictures, in pixels."""

PARTS = ("run", "cache", "report")
CARD_FILE = "README.md"

_DEPTH = "depth 3"
"""The finest classes: the emoji."""
_SHOWN = {
    "agreement on emoji": str(VALUE.of(_DEPTH, mode="independent", control="trained")),
    "excess of agreement": str(EXCESS.of(_DEPTH, mode="independent", control="trained")),
    "cross-reconstruction, NMSE": str(NMSE_CROSS.of(mode="independent", control="trained")),
    "retrieval, R@1": str(R_AT_1["codes"].of(mode="independent", control="trained")),
}


def write_shipped(demo: Path, out: Path) -> None:
    """Write run, cache, report and their card.

    Args:
        demo: The folder of a finished demo.
        out: The folder that ships, `shipped_folder()`; what it holds of the four is replaced.

    Raises:
        SparcError: The demo has not finished, or a file of it is damaged.
    """
    finished = Demo(demo)
    for part in PARTS:
        Folder(out).remove(part)
    write_run(finished, out / "run")
    write_rows(finished, out / "cache")
    report = Report(analyze(out / "run", out / "cache", out / "report").folder.location)
    for stream in report.info.streams:  # its index is made by the first search
        report.search(row=0, stream=stream)
    Folder(out).write(CARD_FILE, card(finished, out, report).encode())


@dataclasses.dataclass(frozen=True)
class Demo:
    """A finished demo; it may have been copied from where it was made.

    Attributes:
        folder: Its folder.
    """

    folder: Path

    @property
    def run(self) -> Path:
        """The run that ships."""
        return self.folder / "runs/sparc"

    @property
    def held_out(self) -> Path:
        """The cache of the rows that ship."""
        return self.folder / "caches/test"

    @cached_property
    def made_at(self) -> str:
        """Where it was made, as its records say."""
        return RunRecord.read(Folder(self.run)).data.cache.removesuffix("/caches/train")

    def named(self, text: str) -> str:
        """A path or spec of a record, with `demo` in place of the demo's folder."""
        return text.replace(self.made_at, NAME)

    def stream(self, stream: StreamInfo) -> StreamInfo:
        """What made a stream, likewise."""
        origin = dataclasses.replace(stream.origin, spec=self.named(stream.origin.spec))
        return dataclasses.replace(stream, origin=origin)


def write_run(demo: Demo, out: Path) -> None:
    """Write the run with weights in float16, and without its timings."""
    source, target = Folder(demo.run), Folder(out)
    record = RunRecord.read(source)
    data = dataclasses.replace(
        record.data,
        cache=demo.named(record.data.cache),
        dataset=demo.named(record.data.dataset),
        streams=tuple(map(demo.stream, record.data.streams)),
    )
    target.create()
    dataclasses.replace(record, data=data).write(target)
    for name in (INITIAL_FILE, METRICS_FILE):
        target.write(name, source.read(name))
    weights = {name: tensor.half() for name, tensor in load(demo.run).state_dict().items()}
    write_weights(target, WEIGHTS_FILE, record.model, weights)


def write_rows(demo: Demo, out: Path) -> None:
    """Write a cache of the held-out scenes, each with the first of its captions."""
    cache = ActivationCache(demo.held_out)
    rows = cache.rows()
    kept = np.flatnonzero(~tables.same_image(rows))
    table = rows.take(pa.array(kept))
    manifest = Manifest(
        dataset=demo.named(cache.info.dataset),
        dataset_format=cache.info.dataset_format,
        split=cache.info.split,
        rows=table.set_column(0, tables.ROWS.field("row"), pa.array(range(len(table)))),
        classes=cache.classes(),
    )
    writer = ChunkWriter.open(out, manifest, rows_per_chunk=len(table))
    for name, stream in cache.streams.items():
        features = [cache.features(name, chunk) for chunk in range(cache.info.chunks)]
        writer.open_stream(dataclasses.replace(demo.stream(stream), compression="zstd"))
        writer.write(name, 0, np.concatenate(features)[kept])
    writer.finish()
    write_thumbnails(writer.folder, writer.info, manifest.rows, str(demo.folder / "scenes"), SIDE)


def card(demo: Demo, out: Path, report: Report) -> str:
    """The page that goes with both, with what float16 costs on all held-out rows."""
    record = RunRecord.read(Folder(out / "run"))
    held_out = ActivationCache(demo.held_out).info.rows
    exact = Report(demo.folder / "reports/sparc").summary
    with tempfile.TemporaryDirectory() as folder:
        halved = analyze(out / "run", demo.held_out, os.path.join(folder, "report")).summary
    small = report.summary
    figures = {
        title: f"{halved[name]:.4f} (in float32 {exact[name]:.4f}); on `cache` {small[name]:.4f}"
        for title, name in _SHOWN.items()
    }
    known = ModelCard(
        encoders={stream.name: stream.origin.spec for stream in record.data.streams},
        dataset="scenes of emoji drawings, made by `sparc-pipeline demo`",
        rows=record.data.usable_rows,
        figures=figures,
        license="apache-2.0",
    )
    return render_card(record.model, NAME, known) + _ROWS.format(
        rows=report.info.rows, held_out=held_out
    )


_ROWS = """
`run` is the run of the model, with its weights in float16. For the figures each stream chose its
latents alone: on the {held_out} held-out rows of the demo, two captions a scene, and on the {rows}
rows of `cache`.

`cache` holds {rows} scenes that the model has never seen: features of the three encoders in
float16, as they were encoded, the first caption of each scene, its classes and a small picture.

`report` is what `sparc-analyze run demo demo report` measures, with every control.

```python
cache = sparc.ActivationCache("demo")
report = sparc.Report("demo")
report.concepts(word="owl")
```

The texts of the captions and the scenes are SPARC's own, Apache-2.0. The drawings in the pictures
are Noto Emoji, Copyright Google LLC, Apache-2.0 (https://github.com/googlefonts/noto-emoji), put on
plain backgrounds, overlapped, turned and scaled. The encoders' weights, which made the features,
are not here: `sparc-pipeline demo` takes them from the Python package index, and says their
licences.
"""


def _sizes(folder: Path) -> Iterator[str]:
    for part in PARTS:
        files = [path for path in (folder / part).rglob("*") if path.is_file()]
        yield f"{part} {sum(path.stat().st_size for path in files) / 1e6:.2f} MB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="A finished demo's folder.")
    write_shipped(parser.parse_args().demo, shipped_folder())
    say(f"{shipped_folder()}: {', '.join(_sizes(shipped_folder()))}")
