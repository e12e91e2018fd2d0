"""How to run the pipelines as processes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparc.pipelines import stages

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def pipeline_command() -> list[str]:
    """What begins every command line of `sparc-pipeline`."""
    return [sys.executable, "-m", "sparc.pipelines.cli"]


@pytest.fixture(scope="session")
def run_pipeline(pipeline_command) -> Run:
    """Run `sparc-pipeline` with some arguments to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*pipeline_command, *map(str, arguments)], capture_output=True, text=True, timeout=240
        )

    return run


@pytest.fixture(scope="session")
def pipeline_in_this_process(call) -> Run:
    """The same with every stage in this process; a stage's own process is `test_stages.py`'s."""

    def run_stage(stage: stages.Stage, heading: str) -> None:
        done = call(stage.program, *stage.arguments)
        assert done.returncode == 0, f"{heading}: {done.stderr}"
        if stage.shows_result:
            sys.stdout.write(done.stdout)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stages, "_run", run_stage)
            return call("pipelines", *arguments)

    return run


@pytest.fixture(scope="session")
def read_summary() -> Callable[[Path], dict[str, float | None]]:
    """The headline figures of a finished report."""

    def read(report: Path) -> dict[str, float | None]:
        summary: dict[str, float | None] = json.loads((report / "summary.json").read_text())
        return summary

    return read
