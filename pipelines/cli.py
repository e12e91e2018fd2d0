"""The command line `sparc-pipeline`: whole runs."""

from pathlib import Path
from typing import Annotated

import typer

from sparc.common.cli.app import command, new_app
from sparc.common.cli.output import display
from sparc.pipelines.config import CocoConfig, DemoConfig, OpenImagesConfig

app = new_app("Whole experiments: from a dataset to a report, with the three commands.")

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's folder.")]
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="Where caches, runs and reports go.")
]


@command(app, DemoConfig, "pipeline")
def demo(config: DemoConfig, folder: Folder = Path("demo")) -> None:
    """SPARC and a baseline on scenes of emoji drawings. Takes minutes, and no model hub."""
    from sparc.pipelines.demo.pipeline import run_demo

    display(run_demo(folder, config))


@command(app, CocoConfig, "pipeline")
def coco(dataset: Dataset, folder: Folder, config: CocoConfig) -> None:
    """The published experiment on COCO."""
    from sparc.pipelines.published import published_stages
    from sparc.pipelines.stages import run_stages

    run_stages(folder, published_stages(dataset, folder, config, "coco"))


@command(app, OpenImagesConfig, "pipeline")
def open_images(dataset: Dataset, folder: Folder, config: OpenImagesConfig) -> None:
    """The published experiment on Open Images."""
    from sparc.pipelines.published import published_stages
    from sparc.pipelines.stages import run_stages

    run_stages(folder, published_stages(dataset, folder, config, "open-images"))


if __name__ == "__main__":
    app()
