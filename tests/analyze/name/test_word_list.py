import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparc.analyze import AnalyzeConfig, analyze
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.name.config import NameConfig
from sparc.analyze.name.page import show
from sparc.analyze.name.word_list import Support, name_by_words, table
from sparc.analyze.search import query
from sparc.analyze.search.query import Query
from sparc.common.errors import ConfigError
from sparc.common.streams.origin import StreamOrigin
from sparc.extract.encoders.encoder import EncodedTexts

L, K = 9, 3


@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), names=st.integers(1, 4))
def test_every_number_is_that_of_plain_loops(seed, count, names):
    generator = np.random.default_rng(seed)
    words = [f"word {i}" for i in range(count)]
    indices = np.array([np.sort(generator.permutation(L)[:K]) for _ in words])
    values = generator.choice([0, 0.5, 1, 2], (count, K)).astype(np.float32)
    batches = [Query(indices[a : a + 7], values[a : a + 7]) for a in range(0, count, 7)]
    support = Support(generator.integers(0, 5, L), 4)
    rows = table("text", words, batches, support, names=names).to_pylist()
    dense = np.zeros((count, L))
    np.put_along_axis(dense, indices, values, 1)
    expected = []
    for latent in range(L):
        column = dense[:, latent]
        order = sorted((-v, w) for w, v in enumerate(column) if v > 0)[:names]
        for rank, (value, word) in enumerate(order, 1):
            z = (-value - column.mean()) / column.std() if column.std() else 0
            active = int((column > 0).sum())
            expected.append((latent, rank, words[word], -value, column.mean(), z, active))
    assert len(rows) == len(expected)
    for line, (latent, rank, word, value, mean, z, active) in zip(rows, expected, strict=True):
        assert (line["latent"], line["rank"], line["word"]) == (latent, rank, word)
        assert (line["value"], line["words_active"], line["words"]) == (value, active, count)
        assert line["mean_value"] == pytest.approx(mean)
        assert line["z"] == pytest.approx(z, abs=1e-6)
        assert (line["rows_active"], line["rows"]) == (support.rows_active[latent], 4)


def test_what_is_printed_first_is_what_is_best_supported():
    """Latent 0 answers one word, weakly, and no row; z, which measures rarity, puts it first."""
    values = {  # By latent, for the words a, b, c and d.
        0: (0.1, 0, 0, 0),  # no row
        1: (3, 3, 3, 2.9),  # whatever the word
        2: (0.9, 0.3, 0, 0),
        3: (2, 0, 0, 0),  # two rows
        4: (0, 0.5, 0, 0),
    }
    indices = np.tile(np.arange(5), (4, 1))
    codes = Query(indices, np.array(list(values.values()), np.float32).T)
    support = Support(np.array([0, 90, 40, 2, 6]), 100)
    text = show(table("text", ["a", "b", "c", "d"], [codes], support, names=2))
    first, *lines = text.splitlines()
    assert first == "5 latents named; 1 of them, listed last, is active on no row of the report"
    assert [int(line.split()[0]) for line in lines] == [2, 4, 1, 3, 0]
    assert "value 0.900 (mean 0.300), active on 2 words of 4, 40 rows of 100" in lines[0]
    assert "2 rows of 100" in lines[3]
    assert lines[4].endswith("active on 1 word of 4, NO ROW of 100")


class FakeEncoder:
    """A text's feature is written in the text."""

    dim = 16
    origin = StreamOrigin(spec="transformers:some")

    def encode(self, texts):
        rows = [np.eye(16)[int(text.split()[-1])] for text in texts]
        return EncodedTexts(torch.tensor(np.array(rows)).float(), 0)


def independent_codes(report, stream):
    """Independent codes of all analysed rows, (rows, latents)."""
    codes = [
        report.codes.read(CodeSet("independent"), chunk, streams=(stream,))
        for chunk in range(report.codes.layout.chunks)
    ]
    indices, values = (
        np.concatenate([getattr(x, name)[stream] for x in codes]) for name in ("indices", "values")
    )
    result = np.zeros((len(values), report.info.latents))
    np.put_along_axis(result, indices.astype(int), values, 1)
    return result


@pytest.fixture
def report(make_cache, saved_model, tmp_path, monkeypatch):
    """A report whose text stream is read by a made-up encoder."""
    cache = make_cache(tmp_path / "cache", rows=40, dtype="float32")
    settings = AnalyzeConfig(permuted=False, scheduler="sync", device="cpu")
    report = analyze(saved_model, cache.folder.local, tmp_path / "report", settings)
    monkeypatch.setitem(
        query.QueryEncoder.__init__.__kwdefaults__,
        "build",
        lambda specs, _: dict.fromkeys(specs, FakeEncoder()),
    )
    return report


def test_words_go_through_the_text_stream(report, model, tmp_path):
    (tmp_path / "words.txt").write_text("3\n5\n\n3\n7\n")
    config = NameConfig(
        words=tmp_path / "words.txt",
        template="an image of {}",
        specs=("transformers:some",),
        names=9,
    )
    named = name_by_words(report, config)
    codes = model.encode({"clip_text": torch.eye(16)[[3, 5, 7]]}, "independent")["clip_text"]
    active = {
        (int(i), word)
        for word, row, values in zip("357", codes.indices, codes.values, strict=True)
        for i, v in zip(row, values, strict=True)
        if v > 0
    }
    assert {(x["latent"], x["word"]) for x in named.to_pylist()} == active
    assert set(named["words"].to_pylist()) == {3}
    dense = independent_codes(report, "clip_text")
    for line in named.to_pylist():
        assert line["rows_active"] == int((dense[:, line["latent"]] > 0).sum())
        assert line["rows"] == len(dense) == 39
    assert 0 in named["rows_active"].to_pylist()
    assert show(named).startswith(f"{len({latent for latent, _ in active})} latents named")
    with pytest.raises(ConfigError, match=r"which text stream of .*: it has clip_text"):
        name_by_words(report, NameConfig(words=tmp_path / "words.txt", source="dino"))
    (tmp_path / "words.txt").write_text("\n")
    with pytest.raises(ConfigError, match="holds no word"):
        name_by_words(report, NameConfig(words=tmp_path / "words.txt"))


def test_the_file_says_what_it_was_made_from(report, saved_model, call, tmp_path):
    (tmp_path / "words.txt").write_text("3\n5\n")
    result = call(
        "analyze", "name", report.folder, "--words", tmp_path / "words.txt",
        "--spec", "transformers:some", "--out", tmp_path / "words.parquet",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    about = json.loads(pq.read_schema(tmp_path / "words.parquet").metadata[b"sparc"])
    assert (about["table"], about["run"]) == ("name", str(saved_model))
    assert about["command"]["name"] == "name"
    assert about["command"]["settings"]["words"] == str(tmp_path / "words.txt")
    assert about["command"]["report"] == str(report.folder)


def test_a_template_without_a_place_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must hold \{\}"):
        NameConfig(words=tmp_path, template="an image")
