"""The model, rows and report that ship with the package, as a person meets them."""

from pathlib import Path

import pytest
import torch

import sparc
from sparc.analyze.report.sources import open_model
from sparc.common.files.shipped import shipped_folder

MOST_BYTES = {"run": 4.3e6, "cache": 1.3e6, "report": 1.4e6}
"""What a wheel must carry for them."""


def files() -> dict[Path, int]:
    """Everything that ships and the folders it lies in, with when each was last changed."""
    top = shipped_folder()
    return {path: path.stat().st_mtime_ns for path in (top, *top.rglob("*"))}


def test_what_ships_is_small_whole_and_names_no_machine(call):
    for part, most in MOST_BYTES.items():
        paths = [path for path in (shipped_folder() / part).rglob("*") if path.is_file()]
        assert 0 < sum(path.stat().st_size for path in paths) < most
        for path in paths:
            assert not any(place in path.read_bytes() for place in (b"/root/", b"/home/", b"/tmp/"))
    done = call("extract", "verify", "demo")
    assert done.returncode == 0, done.stderr
    assert "no damage" in done.stdout


def test_the_model_and_its_rows_agree_without_training_or_encoders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = sparc.load("demo")
    rows = sparc.ActivationCache("demo").aligned(0, model.config.names)
    assert len(rows) == 300
    codes = model.encode(rows.tensors(), "independent")
    active = {name: code.dense() > 0 for name, code in codes.items()}
    shared = (active["dino"] & active["minilm"]).sum(1).float().mean()
    other = (active["dino"] & active["minilm"].roll(1, 0)).sum(1).float().mean()
    assert shared > 6 > 2 > other  # of 16; of another row's caption few
    assert all(weights.dtype == torch.float32 for weights in model.state_dict().values())


def test_the_report_is_on_them_and_asking_changes_nothing_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = files()
    report = sparc.Report("demo")
    assert (report.info.run, report.info.cache) == ("demo", "demo")
    open_model(report)  # refuses another model than the report's
    owl = report.latent(report.concepts(word="owl", shared=True)["latent"][0])
    assert {words[0] for words in owl.names.values()} == {"owl"}
    assert all(image is not None for images in owl.images.values() for image in images)
    hits = report.search(latent=owl.number, stream="dino", results=3)
    assert "owl" in hits["caption"][0]
    assert len(report.search(row=3, source="minilm", stream="dino", results=3)) == 3
    assert report.summary["agreement_excess/independent/trained/depth 3"] == pytest.approx(
        0.3484, abs=5e-4
    )
    assert files() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trust", [False, True])
def test_a_text_asked_of_what_ships_leads_to_the_encoders(tmp_path, monkeypatch, trust):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sparc.SparcError, match="`make demo` in a clone") as caught:
        sparc.Report("demo").search("an owl", stream="dino", trust_encoders=trust)
    assert "trust who made" not in str(caught.value)
