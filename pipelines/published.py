"""The published experiments, from the dataset's folder to the report.

Both splits become caches; SPARC is trained on the first, by the published recipe, and measured on
the second. All other settings are the commands' defaults, which with that recipe are those of the
paper (arXiv 2507.06265).
"""

from pathlib import Path
from typing import Literal

from sparc.pipelines.config import CocoConfig, OpenImagesConfig
from sparc.pipelines.stages import Stage


def published_stages(
    dataset: str,
    folder: Path,
    config: CocoConfig | OpenImagesConfig,
    dataset_format: Literal["coco", "open-images"],
) -> list[Stage]:
    """The four commands of a published experiment.

    Args:
        dataset: The dataset's folder or URL.
        folder: Where caches, run and report go.
        config: The settings.
        dataset_format: The reader.
    """
    run, report = folder / "run", folder / "report"
    caches = {split: folder / "caches" / split for split in ("train", "test")}
    common = _options(config=config.settings, device=config.device)
    encoders = (
        [f"--stream={stream}" for stream in config.streams]
        if config.streams
        else [f"--preset={config.preset}"]
    )
    extraction = (
        *encoders,
        *_options(format=dataset_format, captions=config.captions, limit=config.limit),
        *common,
    )
    training = _options(
        recipe=config.recipe,
        latents=config.latents,
        k=config.k,
        batch_size=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        seed=config.seed,
    )
    train, test = config.train_split, config.test_split
    return [
        Stage(
            f"encoding the split {train}",
            "extract",
            ("run", dataset, str(caches["train"]), f"--split={train}", *extraction),
            caches["train"],
        ),
        Stage(
            f"encoding the split {test}",
            "extract",
            ("run", dataset, str(caches["test"]), f"--split={test}", *extraction),
            caches["test"],
        ),
        Stage(
            "training SPARC",
            "train",
            ("run", str(caches["train"]), str(run), *training, *common),
            run,
        ),
        Stage(
            f"measuring on {test}",
            "analyze",
            ("run", str(run), str(caches["test"]), str(report), *common),
            report,
        ),
    ]


def _options(**values: object) -> tuple[str, ...]:
    """Settings as command line options; those that are None are left out."""
    return tuple(
        f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None
    )
