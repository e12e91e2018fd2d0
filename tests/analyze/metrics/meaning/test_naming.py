import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics.meaning import naming
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.images import number_images
from sparc.analyze.rows.words import CaptionWords

VOCABULARY = ["apple", "boat", "cat", "dog", "egg", "fish", "gate"]


def make(seed, rows, latents, captions=2):
    """Latents that go with words, noise, and rows that are not analysed."""
    generator = np.random.default_rng(seed)
    images = -(-rows // captions)
    of_image = generator.integers(0, len(VOCABULARY), images)
    texts = []
    for row in range(rows):
        own = VOCABULARY[of_image[row // captions]]
        texts.append(f"{own} {VOCABULARY[generator.integers(len(VOCABULARY))]}")
    values = generator.choice([0, 0, 0, 0.5, 1, 2], size=(rows, latents)).astype(np.float32)
    for latent in range(3):
        shown = of_image[np.arange(rows) // captions] == latent
        values[:, latent] *= np.where(shown, 3, generator.random(rows) < 0.1)
    valid = generator.random(rows) < 0.9
    indices = np.tile(np.arange(latents, dtype=np.uint8), (rows, 1))
    kept = np.flatnonzero(valid)
    codes = CodeRows(kept, {"a": indices[kept]}, {"a": values[kept]})
    ids = pa.chunked_array([[f"p{row // captions}" for row in range(rows)]])
    found_images = number_images(ids.chunks, valid)
    return codes, texts, found_images, CaptionWords(lambda: [pa.array(texts)], found_images)


def measured(codes, words, images, latents, *, names=4, top=20):
    lists = top_rows.strongest(codes, "a", top)
    return naming.table(
        ["a"],
        [lists],
        latents,
        words,
        images,
        np.bincount(images.of_row[codes.rows], minlength=len(images)),
        CodeSet("independent"),
        names=names,
    ).to_pylist()


def stratified_tail(results, numbers, held, word, mine):
    """The stratified p-value of a count of images with a word."""
    mass = np.ones(1)
    for number in {numbers[p] for p in held}:
        alike = [p for p in held if numbers[p] == number]
        good, drawn = sum(word in held[p] for p in alike), len(mine & set(alike))
        x = np.arange(min(good, drawn) + 1)
        mass = np.convolve(mass, stats.hypergeom.pmf(x, len(alike), good, drawn))
    return mass[results:].sum()


def brute_force(codes, texts, images, latents, *, names=4, top=20):
    """Every number by plain loops, with SciPy's own statistics."""
    held = {}
    for row, text in enumerate(texts):
        image = int(images.of_row[row])
        if images.analysed[image]:
            held.setdefault(image, set()).update(text.split())
    used = {w: sum(w in s for s in held.values()) for w in VOCABULARY}
    used = {w: n for w, n in used.items() if n >= 5}
    numbers = np.bincount(images.of_row[codes.rows])
    lines, p_values = [], []
    alive = 0
    for latent in range(latents):
        column = codes.values["a"][:, latent]
        order = sorted((-v, int(r)) for v, r in zip(column, codes.rows, strict=True) if v > 0)[:top]
        mine = {int(images.of_row[r]) for _, r in order}
        alive += bool(mine)
        uses = {w: sum(w in held[p] for p in mine) for w in used}
        inside, everything = sum(uses.values()), sum(used.values())
        for word, both in uses.items():
            prior = 500 * used[word] / everything
            a, b = both + prior, used[word] - both + prior
            odds = np.log(a / (inside + 500 - a)) - np.log(b / (everything - inside + 500 - b))
            z = odds / np.sqrt(1 / a + 1 / b)
            if both >= 3 and z >= 3:
                p = stratified_tail(both, numbers, held, word, mine)
                lines.append((latent, word, both, len(mine), used[word], odds, z))
                p_values.append(p)
    if not lines:
        return []
    padded = [*p_values, *[1.0] * (alive * len(used) - len(p_values))]
    q_values = stats.false_discovery_control(padded)
    kept = [(*line, q) for line, q in zip(lines, q_values, strict=False) if q <= 0.01]
    result = []
    for latent in range(latents):
        mine = sorted((x for x in kept if x[0] == latent), key=lambda x: -x[6])[:names]
        result += [(rank, *line) for rank, line in enumerate(mine, 1)]
    return result


@given(seed=st.integers(0, 10_000), rows=st.integers(40, 300))
def test_every_number_is_that_of_plain_loops(seed, rows):
    codes, texts, images, words = make(seed, rows, 6)
    actual = measured(codes, words, images, 6)
    expected = brute_force(codes, texts, images, 6)
    assert len(actual) == len(expected)
    for line, (rank, latent, word, both, mine, all_, odds, z, q) in zip(
        actual, expected, strict=True
    ):
        assert (line["latent"], line["rank"], line["word"]) == (latent, rank, word)
        assert line["images_both"] == both
        assert (line["images_latent"], line["images_word"]) == (mine, all_)
        assert line["log_odds"] == pytest.approx(odds)
        assert line["z"] == pytest.approx(z)
        assert line["q"] == pytest.approx(q, rel=1e-6)
        assert (line["mode"], line["stream"]) == ("independent", "a")


def test_planted_words_are_names_and_noise_has_none():
    codes, _, images, words = make(1, 3000, 12)
    actual = measured(codes, words, images, 12, top=100)
    first = {x["latent"]: x["word"] for x in actual if x["rank"] == 1}
    assert first == {0: "apple", 1: "boat", 2: "cat"}


def test_five_captions_of_one_image_count_once():
    """A latent that is active on one image has no name, however often its word is written."""
    ids = [f"p{row // 5}" for row in range(500)]
    texts = ["rare word"] * 5 + [f"word {w}" for w in VOCABULARY * 71][:495]
    values = np.zeros((500, 1), np.float32)
    values[:5] = 1
    codes = CodeRows(np.arange(500), {"a": np.zeros((500, 1), np.uint8)}, {"a": values})
    images = number_images(pa.chunked_array([ids]).chunks, np.ones(500, bool))
    words = CaptionWords(lambda: [pa.array(texts)], images)
    assert measured(codes, words, images, 1) == []


def test_a_stream_without_any_active_latent():
    codes, _, images, words = make(2, 60, 3)
    nothing = CodeRows(codes.rows, codes.indices, {"a": codes.values["a"] * 0})
    assert measured(nothing, words, images, 3) == []


def test_a_vocabulary_of_one_word_names_nothing():
    codes, texts, images, _ = make(2, 60, 3)
    words = CaptionWords(lambda: [pa.array(["word"] * len(texts))], images)
    assert measured(codes, words, images, 3) == []
