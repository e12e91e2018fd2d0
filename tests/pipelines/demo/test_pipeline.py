import shutil
import signal
import subprocess
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sparc.analyze.report.folder import Report
from sparc.common.cache.reader import ActivationCache
from sparc.common.files.folder import Folder
from sparc.pipelines.config import DemoConfig
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes
from sparc.pipelines.demo.pipeline import demo_stages
from sparc.pipelines.demo.shipped import Demo, write_rows, write_run, write_shipped
from sparc.train.config import TrainConfig
from sparc.train.loading import load
from sparc.train.run.run_folder import RunRecord

SMALL = (
    *("--train-scenes=64", "--test-scenes=12", "--aligned-baseline", "--latents=48", "--k=4"),
    *("--steps=12", "--seed=5"),
)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory, tiny_streams, pipeline_command):
    """A demo that was terminated while its first model was training."""
    folder = tmp_path_factory.mktemp("demo")
    process = subprocess.Popen(
        [*pipeline_command, "demo", str(folder), *SMALL, *tiny_streams],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("    $ sparc-train"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    return folder, process.wait(timeout=60), rest


@pytest.fixture(scope="module")
def finished(interrupted, tiny_streams, pipeline_in_this_process):
    folder = interrupted[0]
    return folder, pipeline_in_this_process("demo", folder, *SMALL, *tiny_streams)


def test_an_interruption_ends_the_command_that_was_running(interrupted):
    folder, status, rest = interrupted
    assert status == 143
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].startswith("interrupted; run the same command again")
    assert not list(folder.rglob(".lock"))


def test_it_goes_on_to_the_table(finished, read_summary):
    folder, result = finished
    assert result.returncode == 0, result.stderr
    assert "[1/14] encoding the train scenes: done before" in result.stderr
    assert "[9/14] measuring the model baseline aligned" in result.stderr
    for name in ("sparc", "baseline", "baseline-aligned"):
        summary = read_summary(folder / "reports" / name)
        for figure in (
            "nmse_cross/independent/trained",
            "agreement/independent/trained/depth 3",
            "codes_r_at_1/independent/trained",
            "localization_pointing/text/several/vit",
        ):
            assert f"{summary[figure]:.3f}" in result.stdout


def test_every_line_of_the_table_has_its_figures(finished):
    _, result = finished
    table, _, _ = result.stdout.partition("What was learnt")
    lines = [line for line in table.splitlines() if line.startswith("  ")]
    assert len(lines) > 15
    assert "agreement, depth 3: emoji (owl, …)" in table
    for line in lines[1:]:
        cells = [cell for cell in line[50:].split() if not cell.startswith("±")]
        assert len(cells) == 3
        assert all(float(cell.replace(",", "").rstrip("%")) >= -10 for cell in cells)
    assert 'in vit: one of two, "a tiger and a piano"' in table
    learnt, _, others = table.partition("THE MAP OF AN OBJECT'S NAME")
    maps, _, latents = others.partition("LATENTS")
    for part, intervals in ((learnt.partition("INDEPENDENT")[2], 3), (maps, 0), (latents, 0)):
        for line in part.splitlines()[1:]:
            # Of the maps, the AUC alone has an interval; counts of latents and controls of randomly
            # paired latents have none.
            expected = 3 if "AUC" in line else 0 if "mispaired latents" in line else intervals
            assert line.count("±") == (expected if line.startswith("  ") else 0), line


def test_maps_of_three_names_are_drawn(finished):
    folder, result = finished
    drawn = sorted(path.name for path in (folder / "localized").iterdir())
    assert "contact-sheet.png" in drawn
    assert len(drawn) == 3 * 3 + 1
    assert str(folder / "localized/contact-sheet.png") in result.stdout


def test_it_ends_with_the_page_that_shows_the_latents(finished):
    folder, result = finished
    page = folder / "site/index.html"
    assert result.stdout.splitlines()[-1] == f"  {page}"
    assert page.is_file()


def test_the_models_learn_from_the_same_rows_and_differ_as_they_should(finished):
    folder, _ = finished
    info = {
        name: pq.read_schema(folder / "reports" / name / "agreement.parquet").metadata[b"sparc"]
        for name in ("sparc", "baseline", "baseline-aligned")
    }
    for name, selection in (
        ("sparc", b"global"),
        ("baseline", b"local"),
        ("baseline-aligned", b"local"),
    ):
        assert b'"selection": "' + selection in info[name]
    runs = {name: RunRecord.read(Folder(folder / "runs" / name)) for name in info}
    assert runs["sparc"].train == TrainConfig(latents=48, k=4, steps=12, seed=5)
    assert (runs["baseline"].train.recipe, runs["baseline"].aligned) == ("joint", ())
    (aligned,) = runs["baseline-aligned"].aligned
    (matched,) = runs["baseline-aligned"].matched
    assert matched.source == str((folder / "runs/baseline").absolute())
    assert aligned.source == str((folder / "runs/baseline-matched").absolute())


def test_run_again_it_prints_the_same_table_at_once(
    finished, tiny_streams, pipeline_in_this_process
):
    folder, first = finished
    again = pipeline_in_this_process("demo", folder, *SMALL, *tiny_streams)
    assert again.stdout == first.stdout
    assert again.stderr.count("done before") == 14


def test_other_settings_in_the_same_folder_are_refused(finished, tiny_streams, run_pipeline):
    folder, _ = finished
    result = run_pipeline("demo", folder, *SMALL, "--steps=13", *tiny_streams)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "another folder" in result.stderr


@pytest.mark.parametrize(
    ("specs", "stages"),
    [
        (("a=timm:vit", "b=transformers:bert"), 14),
        (("a=open_clip:ViT-B-32/openai#image", "b=open_clip:ViT-B-32/openai#text"), 14),
        ((), 14),  # the demo's own
        (("a=timm:vit", "b=timm:efficientnet"), 10),  # nothing reads the names
        (("b=transformers:bert",), 10),
    ],
)
def test_names_are_looked_for_where_something_reads_them(tmp_path, specs, stages):
    write_scenes(tmp_path / "scenes", SceneSettings(train=4, test=12, seed=5))
    few = DemoConfig(streams=specs, train_scenes=4)
    assert len(demo_stages(tmp_path, few, ())) == {14: 10, 10: 7}[stages]  # too few rows to align
    listed = demo_stages(tmp_path, DemoConfig(streams=specs), ())
    assert len(listed) == stages
    assert sum("localize" in stage.arguments for stage in listed) == stages - 10


def test_what_ships_is_made_from_a_finished_demo_wherever_it_lies(finished, tmp_path):
    demo, _ = finished
    write_run(Demo(demo), tmp_path / "run")
    write_rows(Demo(demo), tmp_path / "cache")
    model = load(tmp_path / "run").state_dict()
    for name, weights in load(demo / "runs/sparc").state_dict().items():
        assert torch.equal(model[name], weights.half().float())
    shipped, held_out = (
        ActivationCache(place) for place in (tmp_path / "cache", demo / "caches/test")
    )
    firsts = held_out.rows().to_pylist()[::2]  # a scene has two captions
    assert shipped.rows().to_pylist() == [
        {**row, "row": number} for number, row in enumerate(firsts)
    ]
    for stream in held_out.stream_names:
        np.testing.assert_array_equal(
            shipped.features(stream, 0), held_out.features(stream, 0)[::2]
        )
    assert len(shipped.thumbnails.encoded(range(12))) == 12
    moved = shutil.copytree(demo, tmp_path / "elsewhere")
    for part, write in (("run", write_run), ("cache", write_rows)):
        write(Demo(moved), tmp_path / "again" / part)
        paths = [path for path in (tmp_path / part).rglob("*") if path.is_file()]
        assert paths
        for path in paths:
            twin = tmp_path / "again" / path.relative_to(tmp_path)
            assert path.read_bytes() == twin.read_bytes()
            assert str(demo).encode() not in path.read_bytes()


@pytest.mark.slow
def test_the_card_of_what_ships_says_what_its_report_says(finished, tmp_path):
    write_shipped(finished[0], tmp_path / "ships")
    found = Report(tmp_path / "ships/report").summary["codes_r_at_1/independent/trained"]
    assert f"on \\`cache\\` {found:.4f}" in (tmp_path / "ships/README.md").read_text()
