"""The commands, as a user types them: each as a process once, then in this one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from struck import struck

from sparc.analyze.report.digests import replace
from sparc.analyze.report.folder import Report
from sparc.analyze.report.page import NOT_MEASURED
from sparc.analyze.report.summary_page import summary_page
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(stage, *arguments):
    return [sys.executable, "-m", f"sparc.{stage}.cli", *map(str, arguments)]


@pytest.fixture(scope="module")
def cache(make_cache, tmp_path_factory):
    site = ["north" if row // 2 % 3 else None if row > 60 else "south" for row in range(100)]
    made = make_cache(
        tmp_path_factory.mktemp("cache"), rows=100, rows_per_chunk=25, columns={"site": site}
    )
    return made.folder.local


@pytest.fixture(scope="module")
def trained(cache, call, tmp_path_factory):
    """A run that `sparc-train` made."""
    folder = tmp_path_factory.mktemp("run") / "run"
    result = call(
        "train", "run", cache, folder, "--latents", 40, "--k", 6, "--auxk", 4, "--steps", 20,
        "--batch-size", 32, "--lr", 0.01, "--device", "cpu",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def report(cache, trained, call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "report"
    arguments = ["--rows", 100, "--device", "cpu", "--timings", timings_of(folder)]
    result = call("analyze", "run", trained, cache, folder, *arguments)
    assert result.returncode == 0, result.stderr
    return folder, result


def timings_of(report):
    return report.parent / "timings.jsonl"


def about_table(file):
    """What the key `sparc` of a table's schema says."""
    return json.loads(pq.read_schema(file).metadata[b"sparc"])


def content(folder):
    root = Folder(folder)
    return {name: root.read(name) for name in root.files()}


def test_a_run_gives_a_report_and_prints_its_summary(report, trained):
    folder, result = report
    assert "AGREEMENT" in result.stdout
    assert "untrained model" in result.stdout
    assert str(trained) in result.stdout
    controls = set(pq.read_table(folder / "agreement.parquet")["control"].to_pylist())
    assert controls == {"trained", "untrained"}  # permuted rows are no null for agreement
    assert json.loads((folder / "summary.json").read_text())["nmse_cross/joint/trained"] > 0


def test_timings_lie_beside_the_report_and_name_its_steps(report):
    folder, _ = report
    *_, line = map(json.loads, timings_of(folder).read_text().splitlines())
    assert (line["command"], line["finished"]) == ("sparc-analyze run", True)
    roles = [threads["role"] for threads in line["threads"]]
    assert roles == ["coder", "reader", "writer", "analyzer", "measurer"]
    seconds = {threads["role"]: threads["seconds"] for threads in line["threads"]}
    assert {"encode", "starved", "blocked"} <= set(seconds["coder"])
    both = sum(seconds["coder"].values()) + sum(seconds["analyzer"].values())
    assert both == pytest.approx(line["seconds"], rel=0.05, abs=0.1)
    assert {"read", "measure"} <= set(seconds["measurer"])
    assert sum(line["steps"].values()) == pytest.approx(seconds["analyzer"]["measure"], rel=0.05)
    # Rows of codes: joint and independent ones of two models, and joint ones of permuted images.
    valid = json.loads((folder / "report.json").read_text())["rows"]
    assert line["rows"] == 5 * valid
    assert not list(folder.rglob("*timings*"))


def test_the_untrained_control_is_the_model_of_step_0(report):
    """Its reconstructions are far worse: training did something, and the control is without it."""
    summary = json.loads((report[0] / "summary.json").read_text())
    for mode in ("joint", "independent"):
        assert summary[f"nmse_self/{mode}/untrained"] > summary[f"nmse_self/{mode}/trained"]


def test_a_killed_command_goes_on_where_it_stopped(report, trained, cache, tmp_path):
    folder = tmp_path / "report"
    arguments = ("run", trained, cache, folder, "--rows", 100, "--device", "cpu")
    # Killed when some codes are there, then when some pieces of tables are.
    for sign, method in (
        ("codes.zarr/trained/*/dino/values/c/0/0", "sparc.analyze.codes.store:CodeStore.write"),
        ("pieces/*", "sparc.analyze.report.writer:ReportWriter.write_piece"),
    ):
        killed = struck(signal.SIGKILL, 5, method, "sparc.analyze.cli", *arguments)
        result = subprocess.run(killed, capture_output=True, env=ENVIRONMENT, timeout=200)
        assert result.returncode == -signal.SIGKILL
        assert any(folder.glob(sign))
        assert not (folder / "summary.json").exists()
    again = command("analyze", *arguments)
    result = subprocess.run(again, capture_output=True, text=True, env=ENVIRONMENT, timeout=200)
    assert result.returncode == 0, result.stderr
    assert content(folder) == content(report[0])


def test_reports_are_compared(report, call_process):
    result = call_process("analyze", "compare", report[0], report[0])
    assert result.returncode == 0, result.stderr
    lines = map(str.strip, result.stdout.splitlines())
    (line,) = [x for x in lines if x.startswith("agreement, depth 3, independent")]
    *_, value, margin, value_again, margin_again = line.split()
    assert (value, margin) == (value_again, margin_again)
    assert float(value) > 0
    assert float(margin.removeprefix("±")) > 0


def test_a_figure_that_is_lost_is_an_error_never_a_dash(report, tmp_path):
    """One of each kind in turn, where the digest fits."""
    folder = Folder(shutil.copytree(report[0], tmp_path / "report"))
    whole = json.loads(folder.read("summary.json"))
    kinds = {name.partition("/")[0]: name for name in whole}
    assert len(kinds) > 50
    for name in kinds.values():
        rest = {key: value for key, value in whole.items() if key != name}
        replace(folder, "summary.json", json.dumps(rest).encode())
        with pytest.raises(ReportError, match=re.escape(f"has no figure {name!r}")):
            summary_page([Report(folder.local)])


def test_a_summary_that_lost_a_figure_gets_it_from_the_tables_again(
    report, trained, cache, call, tmp_path
):
    folder = Folder(shutil.copytree(report[0], tmp_path / "report"))
    whole = json.loads(folder.read("summary.json"))
    rest = {key: value for key, value in whole.items() if key != "codes_r_at_1/joint/trained"}
    replace(folder, "summary.json", json.dumps(rest).encode())
    result = call("analyze", "compare", folder.local)
    assert result.returncode == 2
    assert "codes_r_at_1/joint/trained" in result.stderr
    again = ("run", trained, cache, folder.local, "--rows", 100, "--device", "cpu")
    assert call("analyze", *again).returncode == 0
    assert json.loads(folder.read("summary.json")) == whole


def test_reports_with_other_contents_are_compared_and_say_what_they_lack(
    report, trained, cache, call, tmp_path
):
    some = ("--rows", 100, "--device", "cpu", "--no-untrained", "--no-permuted")
    result = call("analyze", "run", trained, cache, tmp_path / "some", *some)
    assert result.returncode == 0, result.stderr
    shown = call("analyze", "compare", report[0], tmp_path / "some").stdout
    assert "untrained control is left out (--no-untrained)" in " ".join(shown.split())
    assert "permuted controls are left out (--no-permuted)" in " ".join(shown.split())
    (line,) = [x for x in shown.splitlines() if x.startswith("  retrieval, R@1, independent")]
    following = shown.splitlines()[shown.splitlines().index(line) + 1]
    assert "untrained" in following
    assert following.endswith(NOT_MEASURED)
    assert not line.endswith(NOT_MEASURED)


def test_bias_finds_what_goes_with_an_attribute(report, cache, call, call_process, tmp_path):
    result = call_process(
        "analyze", "bias", report[0], "--attribute", "class:/m/3", "--out", tmp_path
    )
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first.startswith("class:/m/3: ")
    assert "streams select independently" in first
    assert [x.split(":")[0] for x in lines if "when the attribute is shuffled" in x][:3] == [
        "dino", "clip_image", "clip_text",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "associations.parquet")
    assert set(table["mode"].to_pylist()) == {"independent"}
    assert len(table) == 2 * 3 * 40
    assert table.schema.metadata[b"attribute"] == b"class:/m/3"
    metadata = pq.read_table(tmp_path / "pairs.parquet").schema.metadata
    assert metadata[b"images_with"]
    about = json.loads(metadata[b"sparc"])
    assert (about["table"], about["command"]["name"]) == ("pairs", "bias")
    together = call(
        "analyze", "bias", report[0], "--attribute", "words:caption 7", "--against",
        "words:caption 8,caption 12", "--mode", "joint",
    )  # fmt: skip
    assert together.returncode == 0, together.stderr
    assert "1 of 3 images have it; streams select JOINTLY" in together.stdout
    column = call("analyze", "bias", report[0], "--attribute", "column:site=north")
    assert column.returncode == 0, column.stderr
    assert column.stdout.startswith("column:site=north: 33 of 44 images have it")
    moved = tmp_path / "moved"
    moved.symlink_to(cache)
    result = call(
        "analyze", "bias", report[0], "--attribute", "class:/m/3", "--cache", moved, "--workers", 2
    )
    assert result.stdout.splitlines()[1:] == lines


def test_search_gives_a_table_and_a_sheet(report, call_process, tmp_path):
    arguments = ["search", report[0], "--row", 0, "--from", "clip_text", "--in", "dino"]
    result = call_process(
        "analyze", *arguments, "--results", 3, "--out", tmp_path / "matches.parquet",
        "--sheet", tmp_path / "sheet.png",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # A heading and three images; this cache has no dataset.
    assert len(result.stdout.splitlines()) == 4
    assert "3 images left an empty frame" in result.stderr
    assert pq.read_table(tmp_path / "matches.parquet")["rank"].to_pylist() == [1, 2, 3]
    about = about_table(tmp_path / "matches.parquet")
    command = about.pop("command")
    assert (command["name"], command["report"]) == ("search", str(report[0]))
    assert (command["settings"]["row"], command["settings"]["into"]) == (0, "dino")
    assert command["versions"] == about["versions"]
    # The rest is what the tables of `run` say.
    assert about == about_table(report[0] / "latents.parquet") | {"table": "search"}
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_has_everything_in_common_with_itself(trained, call_process, tmp_path):
    result = call_process("analyze", "stability", trained, trained, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    began = [x for x in result.stdout.splitlines() if x.strip().startswith("untrained ")]
    assert len(began) == 7
    assert all(x.endswith("  same seed: both began with the same directions") for x in began)
    assert "note: what both runs have in common may be their beginning" in result.stdout
    table = pq.read_table(tmp_path / "matching.parquet")
    assert table["first_latent"].equals(table["second_latent"])
    assert min(table["cosine"].to_pylist()) > 0.999
    figures = {
        (x["control"], x["stream"]): x["cosine"]
        for x in pq.read_table(tmp_path / "stability.parquet").to_pylist()
    }
    assert figures["untrained", None] == pytest.approx(1)
    assert figures["random", None] < 0.9
    for name in ("stability", "matching"):
        about = about_table(tmp_path / f"{name}.parquet")
        assert about["table"] == name
        assert [x["run"] for x in about["runs"]] == [str(trained)] * 2
        assert len(about["runs"][0]["model_sha256"]) == 64
        assert about["runs"][0]["streams"] == ["dino", "clip_image", "clip_text"]
        assert any("same seed" in note for note in about["notes"])
        assert about["command"]["name"] == "stability"
        assert about["command"]["settings"]["seed"] == 42
        assert about["command"]["versions"]["sparc"]


def test_errors_are_one_line(report, cache, call, tmp_path):
    for arguments in (
        ["run", tmp_path, cache, tmp_path / "report"],
        ["run", report[0], cache, tmp_path / "report"],
        ["compare", tmp_path],
        ["run", tmp_path, cache, tmp_path / "report", "--rows", 0],
        ["bias", report[0]],
        ["search", report[0], "--in", "dino"],
        ["name", report[0]],
        ["stability", tmp_path, report[0]],
        ["search", report[0], "--in", "dino", "--text", "an apple"],
        ["bias", report[0], "--attribute", "class:none"],
        ["bias", report[0], "--attribute", "words:caption"],
        ["bias", report[0], "--attribute", "class:/m/3", "--cache", tmp_path],
    ):
        result = call("analyze", *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1


def test_a_summary_needs_no_pytorch():
    code = "import sys, sparc.analyze.report.summary_page; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"torch", "zarr", "dask"} & set(loaded)


def test_help_imports_nothing_that_takes_long():
    code = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from sparc.analyze.cli import app
app(["run", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--permute-rows" in done.stdout
    assert "sparc.analyze.config" in done.stderr.split()
    assert not {"torch", "zarr", "pyarrow", "dask", "scipy", "numpy"} & set(done.stderr.split())
