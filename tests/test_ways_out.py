"""What a newcomer with a few arrays is told, on the command line and in Python."""

from pathlib import Path

import numpy as np
import pytest

import sparc

SMALL = {"latents": 16, "k": 3, "steps": 2, "device": "cpu", "kernels": "torch"}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """`cache`, of arrays without images, `run` and `report`."""
    folder, draws = tmp_path_factory.mktemp("newcomer"), np.random.default_rng(0)
    features = {"a": draws.standard_normal((40, 6)), "b": draws.standard_normal((40, 5))}
    sparc.write_arrays(folder / "cache", features, captions=["an owl", "a cat"] * 20)
    sparc.train(folder / "cache", folder / "run", **SMALL)
    quick = {"device": "cpu", "permuted": False, "untrained": False}
    sparc.analyze(folder / "run", folder / "cache", folder / "report", **quick)
    return folder


def said(done) -> str:
    return " ".join(done.stderr.split())


def test_a_finished_run_is_not_trained_further(place, call) -> None:
    options = [f"--{name}={value}" for name, value in {**SMALL, "steps": 5}.items()]
    shown = said(call("train", "run", place / "cache", place / "run", *options))
    assert "has finished with steps = 2, not 5, and a finished run is not trained further" in shown
    assert shown.endswith("choose another folder, or remove this run with --overwrite")


@pytest.mark.parametrize("inside", ["cache/new", "run/deep/new", "report/new"])
def test_a_model_is_not_written_into_another_artefact(place, call, inside) -> None:
    run, cache, new = place / "run", place / "cache", place / inside
    for command in (
        ("save", run, new),
        ("align", run, cache, new),
        ("match", run, cache, new),
        ("export", run, new),
    ):
        done = call("train", *command)
        assert done.returncode == 2
        above = place / inside.split("/")[0]
        assert f"{new} lies inside {above}, which is a" in said(done)
        assert not new.exists()


def test_few_rows_are_called_few(place, call, tmp_path, capsys) -> None:
    done = call("train", "match", place / "run", place / "cache", tmp_path / "matched")
    assert done.returncode == 0
    assert "note: 40 rows are few to match by" in said(done)
    capsys.readouterr()
    sparc.analyze(place / "run", place / "cache", place / "report",
                  device="cpu", permuted=False, untrained=False)  # fmt: skip
    assert "SMALL: " in capsys.readouterr().err


def test_a_sheet_says_where_it_is_and_why_frames_are_empty(place, call, tmp_path) -> None:
    sheet = tmp_path / "sheet.png"
    done = call("analyze", "search", place / "report", "--row=1", "--in=a", "--sheet", sheet)
    assert done.returncode == 0
    assert f"{sheet} shows them" in said(done)
    assert f"{place / 'cache'} was written from arrays without images; write it with" in said(done)


def test_a_latent_in_a_notebook_says_why_it_has_no_images(place) -> None:
    report = sparc.Report(place / "report")
    shown = report.latent(int(report.concepts()["latent"][0]))._repr_html_()
    assert "was written from arrays without images" in shown


def test_names_come_first_in_a_frame(place) -> None:
    columns = list(sparc.Report(place / "report").concepts().columns)
    assert columns[:5] == ["latent", "name_a", "name_b", "images_a", "images_b"]


def test_python_is_told_arguments(place) -> None:
    report = sparc.Report(place / "report")
    for ask, way_out in (
        (lambda: report.search(row=1), "stream="),
        (lambda: report.search("an owl", stream="a"), "image=, row= or latent="),
        (lambda: report.concepts(only="x"), "for only=;"),
        (lambda: report.concepts(all=True), "all=True is for only="),
    ):
        with pytest.raises(sparc.SparcError) as caught:
            ask()
        assert way_out in str(caught.value)
        assert "--" not in str(caught.value)
