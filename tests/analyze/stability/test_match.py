"""Matching of two dictionaries, against all permutations, and where it was planted."""

import dataclasses
from itertools import permutations

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sparc.analyze.codes.subject import open_subject
from sparc.analyze.stability import match as matches
from sparc.analyze.stability.compare import compare
from sparc.analyze.stability.config import StabilityConfig
from sparc.analyze.stability.page import show
from sparc.common.errors import RunError
from sparc.train import ModelConfig, StreamShape, create_model

DIMS = {"dino": 5, "text": 4}


def directions(seed, latents, dims=DIMS):
    generator = np.random.default_rng(seed)
    return {
        stream: torch.from_numpy(generator.normal(size=(latents, dim)).astype(np.float32))
        for stream, dim in dims.items()
    }


def cosines(first, second, stream):
    a, b = (x[stream].double().numpy() for x in (first, second))
    return (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def best_sum(matrix):
    """Of all one-to-one matchings, by trying them."""
    small, large = sorted(matrix.shape)
    matrix = matrix if matrix.shape[0] == small else matrix.T
    return max(
        matrix[range(small), list(chosen)].sum() for chosen in permutations(range(large), small)
    )


@pytest.mark.parametrize("sizes", [(6, 6), (4, 6), (6, 4), (1, 3)])
def test_matchings_are_the_best_of_all(sizes, monkeypatch):
    monkeypatch.setattr(matches, "_BLOCK", 4)
    first, second = directions(1, sizes[0]), directions(2, sizes[1])
    own = {stream: cosines(first, second, stream) for stream in DIMS}
    mean = sum(own.values()) / 2
    matchings = {(x.by, x.stream): x for x in matches.match(first, second)}
    assert list(matchings) == [
        ("joint", None), ("joint", "dino"), ("own", "dino"), ("joint", "text"), ("own", "text"),
    ]  # fmt: skip
    joint = matchings["joint", None]
    for (by, stream), x in matchings.items():
        matrix = mean if stream is None else own[stream]
        assert len(x.first) == len(set(x.first)) == len(set(x.second)) == min(sizes)
        np.testing.assert_allclose(x.cosine, matrix[x.first, x.second], atol=1e-6)
        if by == "own" or stream is None:
            assert x.cosine.sum() == pytest.approx(best_sum(matrix), abs=1e-5)
        else:
            assert x.second.tolist() == joint.second.tolist()
        assert x.nearest_first == pytest.approx(matrix.max(axis=1).mean(), abs=1e-6)
        assert x.nearest_second == pytest.approx(matrix.max(axis=0).mean(), abs=1e-6)


def test_a_permuted_dictionary_is_recognized_and_a_stream_that_moved_on_its_own_is_told():
    """The second run numbers all latents anew, and two of them differently in the text stream."""
    order = np.random.default_rng(3).permutation(40)
    swapped = order.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    dims = {"dino": 64, "clip": 64, "text": 64}
    first = directions(4, 40, dims)
    second = {
        stream: 3 * x[torch.from_numpy(swapped if stream == "text" else order)]
        for stream, x in first.items()
    }
    matching = matches.match(first, second)
    matchings = {(x.by, x.stream): x for x in matching}
    inverse = np.argsort(order)
    assert matchings["joint", None].second.tolist() == inverse.tolist()
    assert matchings["own", "dino"].second.tolist() == inverse.tolist()
    assert matchings["own", "text"].second.tolist() == np.argsort(swapped).tolist()
    rows = {
        (x["matching"], x["stream"]): x for x in matches.figures("trained", matching).to_pylist()
    }
    assert rows["own", "text"]["cosine"] == pytest.approx(1)
    assert rows["joint", "dino"]["above_0_9"] == 1
    assert rows["joint", "text"]["above_0_9"] == rows["joint", None]["above_0_9"] == 38 / 40
    table = matches.table(matching).to_pylist()
    assert len(table) == 7 * 40
    assert {x["second_latent"] for x in table if x["first_latent"] == order[5]} == {5}


def test_a_direction_without_a_length_is_like_none():
    first, second = directions(5, 3), directions(6, 3)
    for x in first.values():
        x[1] = 0
    for matching in matches.match(first, second):
        assert matching.cosine[matching.first == 1] == [0]


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    def make(seed, latents=30, **dims):
        shapes = tuple(StreamShape(name, dim) for name, dim in (dims or DIMS).items())
        folder = tmp_path_factory.mktemp("model")
        create_model(ModelConfig(streams=shapes, latents=latents, k=4), seed=seed).save(folder)
        return str(folder)

    return make


def test_dictionaries_that_have_nothing_in_common_are_like_random_ones(save, tmp_path):
    stability = compare(save(1), save(2, latents=50), StabilityConfig(out=tmp_path))
    rows = {
        (x["control"], x["matching"], x["stream"]): x["cosine"]
        for x in stability.figures.to_pylist()
    }
    assert {control for control, _, _ in rows} == {"trained", "random"}
    for stream in (None, "dino", "text"):
        assert rows["trained", "joint", stream] == pytest.approx(
            rows["random", "joint", stream], abs=0.1
        )
    assert pq.read_table(tmp_path / "stability.parquet").equals(stability.figures)
    assert pq.read_table(tmp_path / "matching.parquet").equals(stability.matching)
    text = show(stability)
    assert text.startswith("30 latents matched one to one")
    assert "two seeds match in part" in text.splitlines()[1]
    assert text.count("random directions") == 5
    assert text.count("note: ") == text.count("is a saved model without its run") == 2


def test_only_runs_of_one_seed_are_said_to_have_begun_alike(save, monkeypatch):
    def open_as(location):
        opened = open_subject(location)
        return dataclasses.replace(opened, untrained=opened.model)

    monkeypatch.setattr("sparc.analyze.stability.compare.open_subject", open_as)
    for seeds, same in (((1, 1), True), ((1, 2), False)):
        stability = compare(*map(save, seeds), StabilityConfig())
        text = show(stability)
        assert stability.same_beginning == same
        assert text.count("    untrained ") == 5
        assert text.count("same seed: both began with the same directions") == 5 * same
        assert ("may be their beginning" in text) == same


def test_streams_of_one_alone_are_left_out(save):
    stability = compare(save(1, dino=5, text=4), save(1, dino=5, audio=4), StabilityConfig())
    assert set(stability.figures["stream"].to_pylist()) == {None, "dino"}
    assert "streams that only one of them has are left out: audio, text" in show(stability)


def test_what_cannot_be_compared_is_refused(save):
    with pytest.raises(RunError, match="no stream in common: dino, text and audio"):
        compare(save(1), save(1, audio=4), StabilityConfig())
    with pytest.raises(RunError, match=r"as stream dino \(dim: 5 and 6\)"):
        compare(save(1), save(1, dino=6), StabilityConfig())


def test_other_encoders_are_refused(save, make_cache, tmp_path, monkeypatch):
    cache = make_cache(tmp_path)
    streams = tuple(cache.streams.values())
    location = save(1, **{stream.name: stream.dim for stream in streams})

    def other(stream):
        changed = {"spec": "timm:other"} if stream.name == "dino" else {}
        origin = dataclasses.replace(stream.origin, **changed)
        return dataclasses.replace(stream, origin=origin)

    def open_as(name):
        trained_on = tuple(map(other, streams)) if name == "other" else streams
        return dataclasses.replace(open_subject(location), trained_on=trained_on)

    monkeypatch.setattr("sparc.analyze.stability.compare.open_subject", open_as)
    stability = compare("run", "run", StabilityConfig())
    assert stability.figures["cosine"].to_pylist()[0] == pytest.approx(1)
    with pytest.raises(RunError, match=r"different encoders as stream dino \(spec: "):
        compare("run", "other", StabilityConfig())
