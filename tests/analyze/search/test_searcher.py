import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sparc.analyze import AnalyzeConfig, Report, analyze
from sparc.analyze.report.sources import open_cache, open_model
from sparc.analyze.rows.images import number_images
from sparc.analyze.search import contact_sheet as contact_sheet_module
from sparc.analyze.search import query
from sparc.analyze.search.config import SearchConfig
from sparc.analyze.search.contact_sheet import TILE, contact_sheet
from sparc.analyze.search.once import open_searcher, search_once
from sparc.analyze.search.page import show
from sparc.analyze.search.ranking import best
from sparc.analyze.search.searcher import SCHEMA, Code, Searcher
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import CacheError, ConfigError, EncoderError, RunError
from sparc.common.streams.origin import StreamOrigin
from sparc.extract.encoders.encoder import EncodedTexts

SETTINGS = AnalyzeConfig(top_rows=4, rows=60, permuted=False, scheduler="sync", device="cpu")


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 60), number=st.integers(1, 9))
def test_the_best_images_are_those_of_plain_loops(seed, rows, number):
    generator = np.random.default_rng(seed)
    ids = [f"p{row // 3}" for row in range(rows)]
    images = number_images(pa.chunked_array([ids]).chunks, np.ones(rows, bool))
    scores = generator.choice([0, 0.25, 0.5, 0.75], rows).astype(np.float32)
    expected, seen = [], set()
    for score, row in sorted((-float(s), r) for r, s in enumerate(scores)):
        if score < 0 and row // 3 not in seen and len(expected) < number:
            seen.add(row // 3)
            expected.append((row, -score))
    matches = best(scores, images.of_row, number)
    assert list(zip(matches.rows.tolist(), matches.scores.tolist(), strict=True)) == expected


def search(report, config):
    return search_once(open_searcher(report, config), config)


@pytest.fixture(scope="module")
def report(make_cache, saved_model, tmp_path_factory):
    cache = make_cache(tmp_path_factory.mktemp("cache"), dtype="float32")
    return analyze(saved_model, cache.folder.local, tmp_path_factory.mktemp("report"), SETTINGS)


def independent(model, stream, x):
    """Dense independent codes in float64, without any code of ours."""
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    encoder, bias, latent_bias = (
        getattr(model, name)[stream].detach().double().numpy()
        for name in ("encoder", "pre_bias", "latent_bias")
    )
    logits = (x - bias) @ encoder.T + latent_bias
    kept = np.argsort(-logits, axis=1)[:, : model.config.k]
    result = np.zeros_like(logits)
    np.put_along_axis(result, kept, np.maximum(np.take_along_axis(logits, kept, 1), 0), 1)
    return result


def features_of(report, stream):
    cache = open_cache(report)
    return np.concatenate([cache.features(stream, c) for c in range(cache.info.chunks)])


def expected_images(report, model, query_code, target, number):
    codes = independent(model, target, features_of(report, target))
    codes[5] = 0  # It is not valid in one stream and not analysed.
    norms = np.linalg.norm(codes, axis=1) * np.linalg.norm(query_code)
    scores = np.divide(codes @ query_code, norms, out=np.zeros(len(codes)), where=norms > 0)
    order = sorted(range(len(codes)), key=lambda r: (-round(scores[r], 5), r))
    matches, seen = [], set()
    for row in order:
        if row // 2 not in seen and len(matches) < number:
            seen.add(row // 2)
            matches.append((row // 2, scores[row]))
    return matches


def test_a_row_of_one_stream_finds_images_in_another(report, model):
    matches = search(report, SearchConfig(row=40, source="clip_text", into="dino", results=7))
    assert matches.schema == SCHEMA
    code = independent(model, "clip_text", features_of(report, "clip_text")[40:41])[0]
    expected = expected_images(report, model, code, "dino", 7)
    assert [r // 2 for r in matches["row"].to_pylist()] == [image for image, _ in expected]
    assert matches["score"].to_pylist() == pytest.approx([s for _, s in expected], abs=1e-5)
    assert matches["caption"].to_pylist() == [f"caption {r}" for r in matches["row"].to_pylist()]
    dino = independent(model, "dino", features_of(report, "dino"))
    for row, latents in zip(
        matches["row"].to_pylist(), matches["latents"].to_pylist(), strict=True
    ):
        weights = code * dino[row]
        assert latents == np.argsort(-weights, kind="stable")[: len(latents)].tolist()
        assert len(latents) == min(5, int((weights > 0).sum()))


def test_a_report_is_opened_once_for_many_searches(report, monkeypatch):
    searcher = Searcher(report, "dino")
    alone = [search(report, SearchConfig(row=row, into="dino", results=4)) for row in (12, 40)]
    for table in ("rows", "row_batches", "features"):
        monkeypatch.setattr(ActivationCache, table, pytest.fail)
    for row, expected in zip((12, 40), alone, strict=True):
        assert searcher.find(searcher.row_code(row), results=4).equals(expected)
    assert Searcher(report, "dino").find(searcher.row_code(12), results=4).equals(alone[0])


def test_a_row_finds_itself(report):
    matches = search(report, SearchConfig(row=12, into="clip_image", results=3))
    assert (matches["row"][0].as_py() // 2, matches["score"][0].as_py()) == (6, pytest.approx(1))
    assert "caption 12" in show(matches)


def test_the_querys_own_image_is_told_apart(report):
    """Row 12 is the first caption of image 6; the image may be found by its other one."""
    for config in (
        SearchConfig(row=12, into="clip_image", results=3),
        SearchConfig(row=12, source="clip_text", into="dino", results=75),
    ):
        matches = search(report, config)
        expected = [row // 2 == 6 for row in matches["row"].to_pylist()]
        assert matches["own_image"].to_pylist() == expected
        _, *lines = show(matches).splitlines()
        assert ["the query's own image" in line for line in lines] == expected
        assert sum(expected) == 1


def test_a_query_from_elsewhere_has_no_image_of_its_own(report):
    searcher = Searcher(report, "dino")
    code = searcher.row_code(12)
    matches = searcher.find(Code(code.indices, code.values), results=3)
    assert set(matches["own_image"].to_pylist()) == {False}
    assert "own image" not in show(matches)


def test_a_sheet_tells_where_was_looked_and_which_image_is_the_querys(
    report, call, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        contact_sheet_module, "draw", lambda *a: drawn.append(a) or Image.new("RGB", (1, 1))
    )
    options = ["--row", 12, "--in", "clip_image", "--results", 3, "--sheet", tmp_path / "a.png"]
    result = call("analyze", "search", report.folder, *options)
    assert result.returncode == 0, result.stderr
    ((title, tiles),) = drawn
    assert title == "in clip_image: nearest to row 12"
    assert tiles[0].lines[0] == "1.000  the query's own image"
    assert tiles[1].lines[0].split("  ")[1].startswith("row ")


class FakeEncoder:
    """Gives known features; what a stream's encoder is to a search."""

    def __init__(self, features, spec="transformers:some", **origin):
        self.features, self.dim = features, features.shape[1]
        self.origin = StreamOrigin(spec=spec, **origin)

    def encode(self, batch):
        features = torch.from_numpy(self.features).float()[: len(batch)]
        return features if isinstance(batch, torch.Tensor) else EncodedTexts(features, 0)

    def prepare(self, image):
        return torch.zeros(3, *image.size)


def use(monkeypatch, encoder):
    def build(specs, device):
        return dict.fromkeys(specs, encoder)

    monkeypatch.setitem(query.QueryEncoder.__init__.__kwdefaults__, "build", build)


def test_a_text_finds_images_of_a_model_that_never_saw_text(report, model, monkeypatch):
    texts = features_of(report, "clip_text")[77:78]
    use(monkeypatch, FakeEncoder(texts))
    config = SearchConfig(text="a red apple", into="dino", results=5, specs=("transformers:some",))
    matches = search(report, config)
    code = independent(model, "clip_text", texts)[0]
    expected = expected_images(report, model, code, "dino", 5)
    assert [r // 2 for r in matches["row"].to_pylist()] == [image for image, _ in expected]


def test_an_image_is_read_by_the_stream_that_is_searched(report, model, monkeypatch, tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    features = features_of(report, "dino")[30:31]
    use(monkeypatch, FakeEncoder(features, spec="timm:vit"))
    config = SearchConfig(
        image=tmp_path / "red.png", into="dino", results=2, specs=("dino=timm:vit",), source=""
    )
    matches = search(report, config)
    assert matches["row"][0].as_py() // 2 == 15
    (tmp_path / "red.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"cannot read the image: .*red\.png"):
        search(report, config)


def test_another_encoder_is_refused(report, monkeypatch):
    use(monkeypatch, FakeEncoder(np.ones((1, 9), np.float32)))
    config = SearchConfig(text="x", into="dino", specs=("transformers:some",))
    with pytest.raises(EncoderError, match="values of a feature: 16 then, 9 now"):
        search(report, config)


def test_errors_say_what_to_do(report, make_cache, model, tmp_path):
    with pytest.raises(ConfigError, match="say with stream= which stream to search: dino, "):
        search(report, SearchConfig(row=1))
    with pytest.raises(ConfigError, match="row 5 was not analysed"):
        search(report, SearchConfig(row=5, into="dino"))
    with pytest.raises(ConfigError, match="has no row 150: its rows are 0 to 149"):
        search(report, SearchConfig(row=150, into="dino"))
    with pytest.raises(ConfigError, match="has no stream 'audio'"):
        search(report, SearchConfig(row=1, into="dino", source="audio"))
    with pytest.raises(ConfigError, match=r"came from elsewhere.*with specs="):
        search(report, SearchConfig(text="x", into="dino"))
    with pytest.raises(ConfigError, match="with source= which stream of images"):
        search(report, SearchConfig(image=tmp_path / "x.png", into="clip_text"))
    with pytest.raises(ConfigError, match="give one of text=, image=, row= and latent="):
        SearchConfig(text="x", row=3)
    other = make_cache(tmp_path / "cache", rows=140)
    with pytest.raises(CacheError, match="holds other rows"):
        search(report, SearchConfig(row=1, into="dino", cache=str(other.folder.local)))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.latent_bias["dino"].data[0] += 1
    model.save(tmp_path / "other")
    model.load_state_dict(state)
    with pytest.raises(RunError, match="another model"):
        open_model(report, tmp_path / "other")
    with pytest.raises(RunError, match="holds no SPARC model"):
        open_model(report, tmp_path / "none")


def test_a_finished_report_stays_readable(report):
    search(report, SearchConfig(row=12, into="clip_image"))
    assert set(Report(report.folder.location).tables) == set(report.tables)


def sheet_of(cache, images, tmp_path, **options):
    count = len(images)
    rows = {
        "rank": range(1, count + 1),
        "score": [0.5] * count,
        "row": range(count),
        "sample_id": ["x"] * count,
        "image": images,
        "caption": ["a \x1b[31m caption"] * count,
        "own_image": [False] * count,
        "latents": [[1]] * count,
        "names": [["red"]] * count,
    }
    table = pa.table(rows, schema=SCHEMA)
    file = tmp_path / "out/sheet.png"
    missing = contact_sheet(table, cache, file, title="red", **options)
    with Image.open(file) as sheet:
        return missing, sheet.convert("RGB")


def test_a_contact_sheet_shows_images_and_empty_frames(report, tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    Image.new("RGB", (300, 100), (255, 0, 0)).save(folder / "red.png")
    Image.new("RGB", (50, 50), (0, 0, 255)).save(folder / "blue.png")
    (folder / "broken.png").write_bytes(b"x")
    images = ["red.png", "gone.png", "broken.png", None, "blue.png", "../red.png"]
    missing, sheet = sheet_of(open_cache(report), images, tmp_path, dataset=str(folder))
    assert missing == 4
    counts = {color: count for count, color in sheet.getcolors(1 << 24)}
    assert counts[(255, 0, 0)] == pytest.approx(TILE * TILE / 3, rel=0.02)
    assert counts[(0, 0, 255)] == 50 * 50
    # Two rows of up to four images.
    assert sheet.width > 4 * TILE
    assert 2 * TILE < sheet.height < 3 * TILE


def test_a_dataset_that_is_gone_leaves_frames(report, tmp_path):
    missing, _ = sheet_of(open_cache(report), ["red.png"] * 3, tmp_path)
    assert missing == 3
    missing, _ = sheet_of(open_cache(report), [], tmp_path)
    assert missing == 0
