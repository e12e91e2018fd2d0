"""The Python of README and guide runs, and the figures of README are those of the demo's table."""

import importlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparc
from sparc.common.cache.arrays import write_arrays
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.data.planted import plant
from sparc.train.model.network import Sparc

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

PAGES = [README, ROOT / "docs/encoders.md", *sorted(ROOT.glob("docs/guide/*.md"))]
PYTHON = [
    (page.relative_to(ROOT), block)
    for page in PAGES
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]
EXAMPLES = {
    "front": 'sparc.load("demo")',
    "arrays": "sparc.train(",
    "arrays at hand": "captions, files = ",
    "batches": "CacheWriter",
    "labels": "label_ids=labels",
    "use": "model.push_to_hub(",
    "analyze": "report-test",
    "ask": "stability_of",
    "own model": "# my_models.py",
    "registered": "register_encoder(",
}
"""By name, a text that this example in Python alone holds; each is run below."""


def example(name: str) -> str:
    """The example that holds a text which no other one holds."""
    those = [block for _, block in PYTHON if EXAMPLES[name] in block]
    assert len(those) == 1, f"{len(those)} examples hold {EXAMPLES[name]!r}"
    return those[0]


def test_every_example_in_python_is_known_to_a_test():
    known = [example(name) for name in EXAMPLES]
    for page, block in PYTHON:
        assert block in known, f"{page} has an example that no test runs:\n{block}"


FIGURES = {
    "agreement on emoji": ("agreement, depth 3", "mispaired latents"),
    "excess": ("excess of agreement", "untrained model"),
    "NMSE": ("cross-reconstruction, NMSE (lower", "untrained model"),
    "R@1": ("retrieval, R@1", "untrained model", "permuted rows"),
    "finds tigers": ("in dino: the 30 most frequent emoji", "all images"),
    "points at": ("dino: map of the name", "the image's centre"),
}
"""A row of README's table: by words that it alone holds, where the demo's table has its figures.

The line of the three models, and those lines below it whose first figure is that of a control.
"""


def figures(text: str) -> list[str]:
    """The figures of a line, each with its interval: 0.349 ±0.012."""
    return re.findall(r"-?\d\.\d{3}(?: ±\d\.\d{3})?", text.replace("\xa0", " "))


@pytest.fixture(scope="module")
def table() -> str:
    """The demo's table, as the guide shows it."""
    report = (ROOT / "docs/guide/reading-a-report.md").read_text()
    return re.search(r"```\n(\d+ rows of held-out.*?)```", report, re.DOTALL)[1]


def test_the_figures_of_the_readme_are_those_of_the_demo(table):
    shown = [row for row in README.read_text().splitlines() if figures(row) and row[0] == "|"]
    assert len(shown) == len(FIGURES)
    for row, (words, (line, *controls)) in zip(shown, FIGURES.items(), strict=True):
        assert words in row
        start = "agreement, depth 3" if words == "excess" else ""  # each depth has one
        below = table[table.index(start) :].partition(line)[2].splitlines()
        expected = figures(below[0])
        assert len(expected) == 3
        for control in controls:
            expected.append(next(figures(entry)[0] for entry in below[1:] if control in entry))
        assert figures(row) == expected, f"README says otherwise than the demo's table: {row}"


@pytest.mark.parametrize("page", ["searching", "pointing"])
def test_the_guide_quotes_figures_of_the_demo(table, page):
    quoted = figures((ROOT / f"docs/guide/{page}.md").read_text())
    assert len(quoted) >= 3
    assert set(quoted) <= set(figures(table))


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) < 140


@pytest.mark.parametrize("pandas", ["with pandas", "without"])
def test_what_ships_answers_as_the_readme_says(tmp_path, monkeypatch, capsys, pandas):
    monkeypatch.chdir(tmp_path)
    if pandas == "without":
        monkeypatch.setitem(sys.modules, "pandas", None)
    code = example("front")
    exec(code, {})
    names, *captions, own, others = capsys.readouterr().out.splitlines()
    assert names == "{'dino': ('owl',), 'effnet': ('owl',), 'minilm': ('owl',)}"
    assert len(captions) == 3
    assert all("an owl" in caption for caption in captions)
    for shown, said in zip((own, others), re.findall(r"# (\d\.\d) latents", code), strict=True):
        assert f"{float(shown[len('tensor(') : -1]):.1f}" == said


def test_arrays_at_hand_are_what_the_example_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    there = {}
    exec(example("arrays at hand"), there)
    write = example("arrays").partition("\n\n")[2].splitlines()[1]
    assert write.startswith("sparc.write_arrays(")
    exec(write, there)
    cache = sparc.ActivationCache("cache")
    assert set(cache.streams) == {"dino", "clip"}
    assert cache.rows(["caption"])["caption"].to_pylist() == there["captions"]


def test_own_arrays_become_a_concept_with_a_name_in_ten_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("owl", "cat", "dog", "sofa", "truck", "apple", "piano", "tree")
    draws = np.random.default_rng(0)
    concept = draws.integers(len(words), size=300)
    hidden = np.eye(len(words))[concept] + 0.1 * draws.normal(size=(300, len(words)))
    there = {name: hidden @ draws.normal(size=(len(words), 20)) for name in ("dino", "clip")}
    there["captions"] = [f"a photo of {words[c]}" for c in concept]
    there["files"] = [Path(f"{row:03}.png") for row in range(300)]
    for row, file in enumerate(there["files"]):
        Image.new("RGB", (8, 8), (30 * int(concept[row]), 0, 0)).save(file)
    code = example("arrays")
    assert sum(bool(line) and not line.startswith("#") for line in code.splitlines()) <= 10
    exec(code, there)
    latent = there["concept"]
    for stream, names in latent.names.items():
        own = latent.rows[latent.rows["stream"] == stream]
        assert names[0] in words
        assert own["caption"].iloc[0] == f"a photo of {names[0]}"
    printed = capsys.readouterr().out
    assert str(latent.names) in printed
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pandas", None)
        exec(code[code.index("shared =") :], there)
    assert capsys.readouterr().out.splitlines() == printed.splitlines()[-3:]
    exec(example("labels"), {**there, "labels": concept % 3})
    labelled = sparc.ActivationCache("labelled")
    assert labelled.rows(["label_ids"])["label_ids"].to_pylist() == [[c % 3] for c in concept]
    assert labelled.classes()["name"].to_pylist() == ["cat", "dog", "sofa"]
    parts = [slice(first, first + 128) for first in range(0, 300, 128)]
    batches = [[there[name][part] for name in ("dino", "clip", "captions")] for part in parts]
    exec(example("batches"), {**there, "batches": batches})
    batched = sparc.ActivationCache("batched")
    assert batched.stream("clip").modality == "text"
    np.testing.assert_array_equal(batched.features("dino", 0), there["dino"].astype(np.float32))


def test_a_model_of_ones_own_is_a_stream(tmp_path, monkeypatch):
    from sparc.extract.encoders.libraries import LIBRARIES

    monkeypatch.setattr("sparc.extract.encoders.libraries.LIBRARIES", dict(LIBRARIES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_lab.py").write_text(
        "import torch\n"
        "from torchvision.transforms import Compose, Resize, ToTensor\n"
        "transform = Compose([Resize((4, 4)), ToTensor()])\n"
        "class MyNet(torch.nn.Sequential):\n"
        "    def __init__(self, layer):\n"
        "        super().__init__(torch.nn.Flatten(), torch.nn.Linear(48, 5))\n"
    )
    (tmp_path / "my_models.py").write_text(example("own model"))
    lab = importlib.import_module("my_lab")
    torch.save(lab.MyNet(11).state_dict(), "net.pt")
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8), (200, 30, 0)).save("pictures/red.png")
    file = {"mine": "python:my_models.py?weights=net.pt&layer=9"}
    from_file = sparc.extract("pictures", "from-file", streams=file)
    there = {}
    exec(example("registered"), there)
    assert set(there["cache"].stream_names) == {"mine", "last"}
    for cache in (from_file, there["cache"]):
        assert cache.stream("mine").dim == 5
    digests = {c.streams["mine"].origin.weights_sha256 for c in (from_file, there["cache"])}
    assert len(digests) == 1


def test_the_examples_run(tmp_path, monkeypatch):
    """One after the other, on features with rejected rows."""
    monkeypatch.chdir(tmp_path)
    published = []
    monkeypatch.setattr(Sparc, "push_to_hub", lambda _, repository: published.append(repository))
    features = plant(
        {"dino": 768, "clip_txt": 12}, rows=100, shared=20, private=2, active=3
    ).features
    features["clip_txt"][::17] = 0
    for cache in ("cache", "cache-test"):
        write_arrays(cache, features, modality={"clip_txt": "text"})
    settings = TrainConfig(
        recipe="joint", latents=32, k=4, batch_size=32, steps=2, device="cpu", kernels="torch"
    )
    job.run("cache", Path("run"), settings)
    there = {}
    exec(example("use"), there)
    assert there["dino"].shape == (94, 768)
    assert published == ["you/your-model"]
    exec(example("analyze"), there)


def test_the_questions_are_asked_of_a_report_on_a_dataset(
    tmp_path, monkeypatch, call, tiny_streams
):
    monkeypatch.chdir(tmp_path)
    write_scenes(Path("scenes"), SceneSettings(train=1, test=40))
    shutil.copy(next(Path("scenes").rglob("test_*.jpg")), "photo.jpg")
    vit, _, text = tiny_streams
    streams = vit.replace("vit=", "dino=", 1), text.replace("text=", "clip_txt=", 1)
    small = "--latents=24", "--k=4", "--batch-size=8", "--steps=4", "--device=cpu"
    for command in (
        ("extract", "run", "scenes", "cache", "--format=coco", "--split=test", *streams),
        ("train", "run", "cache", "run", *small),
        ("train", "run", "cache", "other-run", *small, "--seed=7"),
        ("analyze", "run", "run", "cache", "report", "--no-untrained", "--no-permuted"),
    ):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    there = {"sparc": sparc}
    before = sorted(Path().rglob("*"))
    exec(example("ask"), there)
    new = set(Path().rglob("*")) - set(before)
    assert {path.parts[:2] for path in new} == {("report", "index")}  # nothing is written unasked
    images = there["report"].search(image="photo.jpg", stream="dino", trust_encoders=True)
    assert images["score"][0] == pytest.approx(1, abs=1e-3)  # it finds itself
