"""The settings of `sparc-extract run`, as options and as a TOML table.

Light on purpose: the command line reads this module for `--help`, so it imports no heavy package.
"""

import dataclasses
import os
from pathlib import Path
from typing import Literal

from sparc.common.cache.shards.shard import Shard
from sparc.common.cache.thumbnails.sizes import SIDE, side_fault
from sparc.common.cli.suggestions import devices
from sparc.common.config import option, require_at_least
from sparc.common.devices import ALL_DEVICES, check_device
from sparc.common.errors import ConfigError
from sparc.common.files.paths import from_home
from sparc.common.registry import summaries
from sparc.common.streams.info import check_name
from sparc.common.timing.file import OPTION_HELP
from sparc.extract.datasets.base import Captions, DatasetOptions, index_beside
from sparc.extract.datasets.formats.registry import AUTO, CHOICES, FORMATS
from sparc.extract.encoders import StreamSpec, parse_spec
from sparc.extract.encoders.libraries import LIBRARIES
from sparc.extract.encoders.suggestions import encoders, presets

LOCAL = "local"
"""The scheduler of a cluster that is started on this machine."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """The settings of `sparc-extract run`."""

    streams: tuple[str, ...] = option(
        (),
        "An encoder to run, as 'name=spec' in quotes; repeat for more. A spec is LIBRARY:MODEL, of "
        f"{', '.join(LIBRARIES)}.",
        flag="--stream",
        suggest=encoders,
    )
    preset: str = option(
        "",
        "The published models' streams, instead of --stream: dinov2-clip-b or dinov2-clip-l.",
        suggest=presets,
    )
    format: str = option(
        AUTO,
        f"How the dataset is stored; auto looks at its files. {summaries(FORMATS)}.",
        choices=CHOICES,
    )
    split: str = option("", "The dataset's split, where it has several.")
    limit: int = option(0, "Keep the first N images; 0 keeps all.")
    captions: Captions = option(
        "each", "A row per caption, or one per image: of all captions joined, or of the first."
    )
    holdout: float = option(0.0, "Fraction of images held out for --split test; train is the rest.")
    holdout_by: str = option("", "Metadata column whose equal values are held out together.")
    labels: Path | None = option(
        None, "CSV of ImageID,LabelName,Confidence, instead of the dataset's own labels."
    )
    classes: Path | None = option(None, "CSV of LabelName,DisplayName: the names of classes.")
    hierarchy: Path | None = option(
        None, "Nested JSON of LabelName and Subcategory: the hierarchy of classes."
    )
    masks: bool = option(False, "Keep object masks too, where the dataset has them.")
    columns: tuple[str, ...] = option(
        (),
        "A column of the dataset's metadata to keep in rows.parquet, or all; repeat for more.",
        flag="--column",
    )
    strict: bool = option(
        False, "Refuse a dataset with a bad record, instead of leaving the record out."
    )
    table: Path | None = option(
        None,
        "A table that names the images, with captions or labels, in the dataset or elsewhere: CSV, "
        "TSV, JSON or Parquet, under any name.",
    )
    image_column: str = option("", "Its column, or the metadata's, with names of images.")
    caption_column: str = option("", "The column with captions, where its name is not usual.")
    label_column: str = option("", "The column with classes, where its name is not usual.")
    split_column: str = option("", "The column with the split, where its name is not usual.")
    separator: str = option(
        "", "Between the cells of a table of text, where the first line does not show it."
    )
    label_separator: str = option(";", "Between the classes of a cell of a table of text.")
    dataset_index: str = option(
        "",
        "Where what is known of tar shards behind URLs is kept, so that they are read through only "
        "once: a folder or URL, which several caches may share; empty: CACHE.index.",
    )
    places_per_image: int = option(
        0,
        "Of the places of an image (streams with ?tokens=patch&places=7x7), keep this many, drawn "
        "by the image's name; 0 keeps all.",
    )
    batch_size: int = option(64, "Images or captions per forward pass.")
    rows_per_chunk: int = option(4096, "Rows per chunk, the unit of writing and reading.")
    dtype: Literal["float16", "float32"] = option("float16", "Type of the stored features.")
    compression: Literal["none", "lz4", "zstd"] = option(
        "none", "Lossless compression; features hardly compress."
    )
    keep_bits: int | None = option(
        None, "Mantissa bits of float32 to keep (BitRound); helps compression."
    )
    thumbnails: int = option(
        SIDE,
        "Longest side in pixels of the pictures that the cache keeps of its images, to show them "
        "without the dataset; 0 keeps none.",
    )
    device: str = option("auto", "Where to encode: auto, cpu, cuda, cuda:1, …", suggest=devices)
    devices: str = option("", "Several devices, with a replica on each: all, or cuda:0,cuda:1,…")
    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto",
        "Arithmetic of the encoders: float32, or bfloat16 by autocast; auto is bfloat16 on a GPU, "
        "float32 on a CPU.",
    )
    decode_side: int = option(
        0,
        "Decode JPEG files at 1/8, 1/4 or 1/2 of their size where their shorter side keeps at "
        "least N pixels, faster if pictures are large; 0 decodes at full size.",
    )
    workers: int = option(0, "Threads that read and decode images; 0: one per core.")
    repair: bool = option(
        False, "Check every byte of an existing cache; encode what is damaged again, nothing else."
    )
    shard: str = option(
        "",
        "Make the share i/n of the chunks, as one of n commands on any machines; `sparc-extract "
        "finish` gathers the shards, if the last of them did not.",
    )
    timings: Path | None = option(None, OPTION_HELP)
    scheduler: str = option(
        "",
        "Let the workers of a Dask cluster encode and write, such as tcp://host:8786; local starts "
        "some on this machine.",
    )
    n_workers: int = option(
        0, "Worker processes of --scheduler local; 0: one for each of the devices."
    )
    retries: int = option(
        3, "With --scheduler: attempts more at a chunk after an error of a disk, network or GPU."
    )
    workers_timeout: float = option(
        600.0, "With --scheduler: seconds without any worker before the command gives up."
    )
    dry_run: bool = option(False, "Only say what would be done: load no model, write nothing.")

    def __post_init__(self) -> None:
        if bool(self.streams) == bool(self.preset):
            raise ConfigError(
                "say which encoders to run: --stream 'name=spec' (repeatable) or --preset"
                if not self.streams
                else "give --stream or --preset, not both"
            )
        # A malformed or repeated stream, or an unknown preset, is refused before anything is read.
        _ = self.specs
        for name, smallest in (
            ("limit", 0),
            ("places_per_image", 0),
            ("batch_size", 1),
            ("rows_per_chunk", 1),
            ("decode_side", 0),
            ("n_workers", 0),
            ("retries", 0),
        ):
            require_at_least(self, name, smallest)
        if self.workers < 0:
            raise ConfigError("workers must not be negative")
        if (fault := side_fault(self.thumbnails)) is not None:
            raise ConfigError(fault)
        if self.keep_bits is not None and self.dtype != "float32":
            raise ConfigError("keep_bits needs dtype float32")
        if self.keep_bits is not None and not 1 <= self.keep_bits <= 23:
            raise ConfigError("keep_bits must be from 1 to 23, the mantissa of float32")
        if self.own_shard is not None and self.repair:
            raise ConfigError(
                "--repair checks the whole cache: run it once, without --shard, when no shard is "
                "at work"
            )
        self._check_scheduler()
        if self.devices and self.device != "auto":
            raise ConfigError("give device or devices, not both")
        for device in self._named_devices():
            check_device(device)

    @property
    def specs(self) -> dict[str, StreamSpec]:
        """The streams to extract, by name, in the order given.

        Raises:
            ConfigError: There is no such preset.
        """
        if self.streams:
            return _parse_streams(self.streams)
        from sparc.extract.encoders.presets import preset

        return dict(preset(self.preset))

    @property
    def own_shard(self) -> Shard | None:
        """The share of the chunks to make; None: all of them.

        Raises:
            ConfigError: `shard` names none.
        """
        return Shard.parse(self.shard) if self.shard else None

    @property
    def arithmetic(self) -> Literal["float32", "bfloat16"] | None:
        """What the encoders compute in; None: what is usual on the device."""
        return None if self.precision == "auto" else self.precision

    @property
    def makes_thumbnails(self) -> bool:
        """Whether the cache keeps small pictures: none for text alone."""
        return self.thumbnails > 0 and any(s.modality == "image" for s in self.specs.values())

    @property
    def threads(self) -> int:
        """Threads that read and decode images: `workers`, or one for each core we may use."""
        return self.workers or usable_processors()

    def dataset_options(self, cache: str = "") -> DatasetOptions:
        """The settings that concern the dataset.

        Args:
            cache: The cache's location, beside which the dataset's index lies unless a setting
                says otherwise; empty, and in a dry run, which writes nothing: there is none.

        Raises:
            ConfigError: They do not go together.
        """
        names = [f.name for f in dataclasses.fields(DatasetOptions)]
        options = DatasetOptions(**{name: getattr(self, name) for name in names})
        if self.dataset_index:
            return dataclasses.replace(options, dataset_index=from_home(self.dataset_index))
        if self.dry_run or not cache:
            return options
        return dataclasses.replace(options, dataset_index=index_beside(cache))

    def _check_scheduler(self) -> None:
        if self.n_workers and self.scheduler != LOCAL:
            raise ConfigError("n_workers is of --scheduler local: other clusters have theirs")
        if not self.scheduler:
            return
        if self.scheduler != LOCAL and "://" not in self.scheduler:
            raise ConfigError(
                f"scheduler must be {LOCAL} or a cluster's address such as tcp://host:8786, not "
                f"{self.scheduler!r}"
            )
        if self.shard:
            raise ConfigError(
                "--shard is for commands without a scheduler: give --scheduler or --shard, not both"
            )
        if self.workers_timeout <= 0:
            raise ConfigError("workers_timeout must be above 0")
        if self.scheduler != LOCAL and (self.devices or ":" in self.device):
            raise ConfigError(
                "each worker of a cluster has one device, which its CUDA_VISIBLE_DEVICES chooses: "
                "give --device cuda or cpu"
            )

    def _named_devices(self) -> tuple[str, ...]:
        if self.devices == ALL_DEVICES:
            return ()
        return tuple(self.devices.split(",")) if self.devices else (self.device,)


def usable_processors() -> int:
    """How many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _parse_streams(texts: tuple[str, ...]) -> dict[str, StreamSpec]:
    specs: dict[str, StreamSpec] = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        if not equals:
            raise ConfigError(
                f"cannot read stream {text!r}: it must be name=spec, such as "
                "dino=timm:vit_small_patch14_dinov2"
            )
        if check_name(name) in specs:
            raise ConfigError(f"two streams are called {name!r}")
        # As it will be recorded: whoever builds the encoder again may do so from another folder.
        specs[name] = parse_spec(spec).absolute()
    return specs
