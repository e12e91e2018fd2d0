"""The demo: scenes, encoders, the three commands for three models, one table, and pages.

SPARC, with the default recipe, is compared with the paper's baseline, one dictionary per stream:
local TopK without cross-reconstruction, and with that baseline matched and aligned after training,
which makes even dictionaries agree that were never trained to share anything. All learn from the
same rows and are measured on the same held-out scenes.
"""

from collections.abc import Mapping
from pathlib import Path

from sparc.common.progress import say
from sparc.extract.encoders import parse_spec
from sparc.pipelines.config import DemoConfig
from sparc.pipelines.demo.dataset import (
    CLASSES_FILE,
    HIERARCHY_FILE,
    LABELS_FILE,
    SceneSettings,
    write_scenes,
)
from sparc.pipelines.demo.showcase import choose_showcase
from sparc.pipelines.stages import Stage, run_stages

_LEARNING_RATE = 3e-3
"""30 times the published rate: the demo takes hundreds of steps, not hundreds of thousands."""

TRAINED: Mapping[str, tuple[str, ...]] = {
    "sparc": (),
    "baseline": (
        *("--recipe=joint", "--selection=local", "--cross-weight=0"),
        *(f"--lr={_LEARNING_RATE}", "--schedule=cosine"),
    ),
}
"""The models that are trained, and their settings other than the defaults."""

ALIGNED = "baseline aligned"
"""The baseline, matched and then aligned after training."""

HUB_PRESET = "dinov2-clip-b"

MAPS_FOLDER = "localized"
"""The folder of the maps of a few scenes, in the demo's folder."""

SITE_FOLDER = "site"
"""The folder of the pages that show what SPARC's latents stand for, in the demo's folder."""

_ROWS_PER_CHUNK = 512
_LOCALIZED_SCENES = 40


def run_demo(folder: Path, config: DemoConfig) -> str:
    """Run the stages that have not finished yet, and compare the models.

    Args:
        folder: Where everything goes.
        config: The settings.

    Returns:
        The comparison, as text; its last line is the path of the pages.

    Raises:
        SparcError: Something is missing, or a stage failed.
    """
    scenes = folder / "scenes"
    settings = SceneSettings(train=config.train_scenes, test=config.test_scenes, seed=config.seed)
    say(f"scenes: {settings.train:,} to learn from, {settings.test:,} held out, in {scenes}")
    write_scenes(scenes, settings)
    run_stages(folder, demo_stages(folder, config, _encoder_options(folder, config)))

    from sparc.analyze.browse.page_files import START
    from sparc.pipelines.demo.table import comparison

    table = comparison(folder, _folders(folder / "reports", config))
    page = folder / SITE_FOLDER / START
    return f"{table}\n\nLook at what SPARC has learnt, latent by latent, in a browser:\n  {page}"


def demo_stages(folder: Path, config: DemoConfig, encoders: tuple[str, ...]) -> list[Stage]:
    """The commands of the demo.

    Args:
        folder: Where everything goes; it has the scenes.
        config: The settings.
        encoders: Options of `sparc-extract run` that say which encoders to run.
    """
    scenes = folder / "scenes"
    caches = {split: folder / "caches" / split for split in ("train", "test")}
    runs = _folders(folder / "runs", config)
    reports = _folders(folder / "reports", config)
    labels = (
        f"--labels={scenes / LABELS_FILE}",
        f"--classes={scenes / CLASSES_FILE}",
        f"--hierarchy={scenes / HIERARCHY_FILE}",
    )
    stages = [
        Stage(
            f"encoding the {split} scenes",
            "extract",
            (
                *("run", str(scenes), str(cache), "--format=coco", f"--split={split}"),
                *labels,
                "--masks",
                *encoders,
                f"--rows-per-chunk={_ROWS_PER_CHUNK}",
            ),
            cache,
        )
        for split, cache in caches.items()
    ]
    stages += [
        Stage(
            f"training the model {name}",
            "train",
            (
                *("run", str(caches["train"]), str(runs[name]), *settings),
                *(f"--latents={config.latents}", f"--k={config.k}", f"--steps={config.steps}"),
                f"--seed={config.seed}",
            ),
            runs[name],
        )
        for name, settings in TRAINED.items()
    ]
    if config.aligned_baseline:
        source, matched = runs["baseline"], folder / "runs/baseline-matched"
        for command, doing, result in (
            ("match", "matching", matched),
            ("align", "aligning", runs[ALIGNED]),
        ):
            stages.append(
                Stage(
                    f"{doing} the model baseline after training",
                    "train",
                    (command, str(source), str(caches["train"]), str(result)),
                    result,
                )
            )
            source = result
    stages += [
        Stage(
            f"measuring the model {name} on the test scenes",
            "analyze",
            ("run", str(runs[name]), str(caches["test"]), str(report)),
            report,
            shows_result=False,
        )
        for name, report in reports.items()
    ]
    if _names_have_maps(config):
        stages += _localization_stages(scenes, folder, caches["test"], runs, reports)
    site = folder / SITE_FOLDER
    stages.append(
        Stage(
            "making pages of what the model sparc has learnt",
            "analyze",
            ("browse", str(reports["sparc"]), str(site)),
            site,
            shows_result=False,
        )
    )
    return stages


def _folders(parent: Path, config: DemoConfig) -> dict[str, Path]:
    """The folders of the models' runs or reports, by the names of the models."""
    models = [*TRAINED, ALIGNED] if config.aligned_baseline else list(TRAINED)
    return {name: parent / name.replace(" ", "-") for name in models}


def _names_have_maps(config: DemoConfig) -> bool:
    """Whether one stream can read names and another can show where they point."""
    specs = [parse_spec(stream.partition("=")[2]) for stream in config.streams]
    return not specs or {spec.modality for spec in specs} == {"image", "text"}


def _localization_stages(
    scenes: Path,
    folder: Path,
    cache: Path,
    runs: Mapping[str, Path],
    reports: Mapping[str, Path],
) -> list[Stage]:
    stages = [
        Stage(
            f"locating names in test scenes with the model {name}",
            "analyze",
            (
                *("localize", str(runs[name]), f"--cache={cache}", f"--report={report}"),
                *("--trust-encoders", f"--max-images={_LOCALIZED_SCENES}"),
            ),
            report,
            shows_result=False,
        )
        for name, report in reports.items()
    ]
    showcase = choose_showcase(scenes)
    stages.append(
        Stage(
            "drawing where the names of a scene's objects point",
            "analyze",
            (
                *("localize", str(runs["sparc"]), *map(str, showcase.images)),
                *(f"--cache={cache}", "--trust-encoders"),
                *(f"--text={text}" for text in showcase.texts),
                f"--out={folder / MAPS_FOLDER}",
            ),
            folder / MAPS_FOLDER,
            shows_result=False,
        )
    )
    return stages


def _encoder_options(folder: Path, config: DemoConfig) -> tuple[str, ...]:
    if config.streams:
        return tuple(f"--stream={stream}" for stream in config.streams)
    if config.encoders == "hub":
        return (f"--preset={HUB_PRESET}",)
    from sparc.pipelines.demo.encoders import prepare_encoders

    specs = prepare_encoders(folder / "encoders")
    return tuple(f"--stream={name}={spec}" for name, spec in specs.items())
