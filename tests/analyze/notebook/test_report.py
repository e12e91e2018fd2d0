"""A report in a notebook: what its methods return, what that shows of itself, what is refused."""

import sys

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import sparc

WORDS = ("owl", "cat", "<b>dog</b>", "sofa", "truck", "apple")
ROWS = 120


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of two streams that share a concept for each of six words; the first image is lost."""
    folder = tmp_path_factory.mktemp("notebook")
    draws = np.random.default_rng(0)
    concept = draws.integers(len(WORDS), size=ROWS)
    hidden = np.eye(len(WORDS))[concept] + 0.1 * draws.normal(size=(ROWS, len(WORDS)))
    files = [folder / f"{row:03}.png" for row in range(ROWS)]
    for row, file in enumerate(files):
        Image.new("RGB", (12, 8), (40 * int(concept[row]), 0, 0)).save(file)
    sparc.write_arrays(
        folder / "cache",
        {name: hidden @ draws.normal(size=(len(WORDS), dim)) for name, dim in DIMS.items()},
        captions=[f"a photo of {WORDS[c]}" for c in concept],
        images=files,
        thumbnails=0,
    )
    small = {"batch_size": 32, "device": "cpu", "kernels": "torch", "recipe": "published"}
    sparc.train(folder / "cache", folder / "run", latents=24, k=3, epochs=40, lr=3e-3, **small)
    files[0].unlink()
    fast = {"device": "cpu", "untrained": False, "permuted": False}
    return sparc.analyze(folder / "run", folder / "cache", folder / "report", **fast)


DIMS = {"dino": 10, "clip": 8}


def test_concepts_are_those_of_the_command(report, call, tmp_path) -> None:
    import pandas

    done = call("analyze", "concepts", report.folder, "--shared", f"--out={tmp_path}/c.csv")
    assert done.returncode == 0, done.stderr
    shared = report.concepts(shared=True)
    assert isinstance(shared, pandas.DataFrame)
    assert len(shared) > 0
    assert shared["latent"].tolist() == pandas.read_csv(tmp_path / "c.csv")["latent"].tolist()
    assert report.latents["latent"].is_unique
    assert set(shared["latent"]) < set(report.latents["latent"])
    assert len(report.concepts(word="owl")) < len(report.latents)
    assert report.concepts(shared=True, limit=2)["latent"].tolist() == shared["latent"].tolist()[:2]
    assert len(report.concepts(limit=0)) == len(report.latents)


def test_without_pandas_tables_are_of_arrow(report, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for table in (report.concepts(), report.search(row=1, stream="dino"), report.latent(0).rows):
        assert isinstance(table, pa.Table)


def test_a_latent_says_what_the_command_says_and_has_rows_and_images(report, call) -> None:
    number = report.concepts(shared=True)["latent"][0]
    latent = report.latent(number)
    done = call("analyze", "show", report.folder, f"--latent={number}")
    assert done.stdout.strip() == str(latent).strip()
    assert latent.number == number
    assert set(latent.names) == set(DIMS)
    for stream, names in latent.names.items():
        own = latent.rows[latent.rows["stream"] == stream]
        assert any(name in own["caption"].iloc[0] for name in names)
        assert own["value"].is_monotonic_decreasing
        assert len(latent.images[stream]) == len(own)
        assert f"{stream}: {names[0]}" in repr(latent)
    assert "\n" not in repr(latent)
    assert latent.sheet().width > 100


def test_what_a_notebook_shows_is_escaped_and_bears_lost_images(report) -> None:
    shown = [report.latent(number)._repr_html_() for number in report.latents["latent"]]
    assert all("<b>dog" not in page and "<script" not in page for page in shown)
    assert any("a photo of &lt;b&gt;dog&lt;/b&gt;" in page for page in shown)
    assert any("data:image/jpeg;base64," in page for page in shown)
    assert any("no image" in page for page in shown)


def test_a_latent_that_is_shown_is_written_to_standard_output(report, capsys) -> None:
    latent = report.latent(3)
    latent.show()
    assert capsys.readouterr().out == f"{latent}\n"


def test_searches_by_row_and_latent_share_a_searcher(report, monkeypatch) -> None:
    first = report.search(row=1, stream="dino", results=3)
    monkeypatch.delattr("sparc.analyze.search.searcher.open_index")  # it stays open
    assert report.search(row=1, stream="dino", results=3).equals(first)
    assert first["row"][0] == 1
    number = int(report.concepts(shared=True)["latent"][0])
    for latents in report.search(latent=number, stream="dino")["latents"]:
        assert number in latents


def test_bias_is_a_table_of_latents(report) -> None:
    bias = report.bias("words:owl", examples=1)
    assert set(bias.associations["stream"]) == set(DIMS)
    assert repr(bias).startswith("BiasFrames(associations: ")


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda r: r.concepts(share=True), "report.concepts: unknown setting 'share'; did you"),
        (lambda r: r.concepts(only="dinov2"), "has no stream 'dinov2'"),
        (lambda r: r.latent(24), "has no latent 24"),
        (lambda r: r.latent("star"), "latent must be a whole number, such as 42, not 'star'"),
        (lambda r: r.latent(2.5), "latent must be a whole number, such as 42, not 2.5"),
        (lambda r: r.search(row="3", stream="dino"), "row must be a whole number, such as 42"),
        (lambda r: r.search(stream="dino"), "nothing was given"),
        (lambda r: r.search("owl", row=3, stream="dino"), "not text and row"),
        (lambda r: r.search(row=3), "dino, clip"),
        (lambda r: r.search("owl", stream="dino"), "text"),
        (lambda r: r.localize("a.png"), "one text or latent"),
        (lambda r: r.localize("a.png", "owl", methods="x"), "unknown setting 'methods'"),
        (lambda r: r.bias("words:zebra"), "zebra"),
        (lambda r: r.bias("words:owl", q=7), "q must be a share"),
        (lambda r: r.table("purity"), "has no table 'purity'"),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(report, question, message) -> None:
    with pytest.raises(sparc.SparcError) as caught:
        question(report)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "tensor(" not in str(caught.value)


def test_what_has_moved_is_found_where_it_is_said_to_be(report, tmp_path) -> None:
    folder = report.folder.local.parent
    for name in ("cache", "run"):
        (tmp_path / name).symlink_to(folder / name)
    moved = sparc.Report(str(report.folder), cache=tmp_path / "cache", run=tmp_path / "run")
    assert moved.concepts().equals(report.concepts())
    with pytest.raises(sparc.SparcError, match="nowhere"):
        sparc.Report(str(report.folder), cache=tmp_path / "nowhere").concepts()


def test_what_is_shown_of_a_report_is_one_line(report) -> None:
    assert repr(report).startswith(f"Report('{report.folder}': 120 rows, 24 latents of dino, clip;")
    assert "\n" not in repr(report)
