"""Selection by products in bfloat16 against float64, and against all products in float32."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from sparc.train.kernels.screening import screen as screening
from sparc.train.kernels.screening.bounds import UNIT
from sparc.train.kernels.screening.low_logits import begin
from sparc.train.kernels.screening.screen import CompiledScreen
from sparc.train.model.topk import largest, sum_in_order

SCREEN = CompiledScreen()
FLOAT32 = 2.0**-24


def scaled(draws, rows, dim, sizes):
    """Rows of normal numbers, each with a size of its own."""
    numbers = torch.randn(rows, dim, generator=draws)
    return numbers * torch.tensor(sizes)[torch.randint(len(sizes), (rows,), generator=draws), None]


def duplicates(draws, rows, dim):
    """Few different rows: their logits are equal, or almost."""
    few = torch.randn(3, dim, generator=draws)
    weight = few[torch.randint(3, (rows,), generator=draws)]
    moved = weight * (1 + 1e-7 * torch.randn(rows, 1, generator=draws))
    return torch.where(torch.rand(rows, 1, generator=draws) < 0.5, weight, moved)


def halves(draws, rows, dim):
    """Numbers in the middle between two of bfloat16: rounding moves all by as much as it may."""
    bits = torch.randint(0x3F80, 0x3F82, (rows, dim), generator=draws, dtype=torch.int32)
    return ((bits << 16) | 0x8000).view(torch.float32)


DRAWN = {
    "normal": lambda draws, rows, dim: scaled(draws, rows, dim, [1.0]),
    "sizes": lambda draws, rows, dim: scaled(draws, rows, dim, [1e-20, 1e-3, 1.0, 1e6]),
    "tiny": lambda draws, rows, dim: scaled(draws, rows, dim, [1e-40, 1e-25, 1e-18]),
    "huge": lambda draws, rows, dim: scaled(draws, rows, dim, [1.0, 1e15, 1e17]),
    "duplicates": duplicates,
    "halves": halves,
    "zeros": lambda draws, rows, dim: scaled(draws, rows, dim, [0.0, 0.0, 1.0]),
    "one huge": lambda draws, rows, dim: scaled(draws, rows, dim, [1.0] * 7 + [1e12]),
    "signs": lambda draws, rows, dim: torch.randn(rows, dim, generator=draws).sign(),
}

streams_drawn = st.lists(
    st.tuples(st.integers(1, 80), st.sampled_from(sorted(DRAWN)), st.sampled_from(sorted(DRAWN))),
    min_size=1,
    max_size=3,
)


def low_logits(streams, *, rows, latents, biases, missing, seed):
    draws = torch.Generator().manual_seed(seed)
    logits = []
    for dim, of_rows, of_latents in streams:
        read, encoder = DRAWN[of_rows](draws, rows, dim), DRAWN[of_latents](draws, latents, dim)
        bias = biases * torch.randn(latents, generator=draws)
        present = None
        if missing:
            present = torch.rand(rows, generator=draws) < 0.6
            read = read * present.unsqueeze(1)
        stream = begin(read, encoder, bias, present)
        for first in range(0, latents, 100):  # products are divided among threads
            SCREEN.fill(stream, slice(first, min(first + 100, latents)))
        logits.append(stream)
    return logits


def in_float64(stream):
    """Logits, and how far those of float32 may be from them."""
    read, encoder, has = stream.read.double(), stream.encoder.double(), stream.has.unsqueeze(1)
    logits = (read @ encoder.T + stream.bias.double()) * has
    sizes = read.norm(dim=1, keepdim=True) * encoder.norm(dim=1) + stream.bias.abs()
    dim = read.shape[1]
    return logits, (dim + 8) * FLOAT32 * sizes * has + dim * 2.0**-125


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    streams=streams_drawn,
    rows=st.integers(1, 20),
    latents=st.integers(1, 700),
    k=st.integers(1, 12),
    biases=st.sampled_from([0.0, 1e-6, 1.0]),
    missing=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_row_selects_the_largest(streams, rows, latents, k, biases, missing, seed):
    k = min(k, latents)
    logits = low_logits(
        streams, rows=rows, latents=latents, biases=biases, missing=missing, seed=seed
    )
    indices, values = SCREEN.select(logits, k)

    # The k largest of all the float32 logits, of equal ones the first: the same bits.
    every = torch.arange(latents).expand(rows, -1)
    in_float32 = [SCREEN.at(stream, every) for stream in logits]
    expected = largest(sum_in_order(in_float32), k).sort(dim=1).values
    assert torch.equal(indices.sort(dim=1).values, expected)
    for position, of_stream in enumerate(in_float32):
        assert torch.equal(values[:, position], of_stream.gather(1, indices))

    # Never another latent than float64 selects, unless float32 cannot tell them apart.
    exact, errors = zip(*map(in_float64, logits), strict=True)
    scores, error = sum(exact), sum(errors)
    chosen = torch.zeros(rows, latents, dtype=torch.bool).scatter_(1, indices, True)
    worst = (scores + error).masked_fill(~chosen, torch.inf).amin(1)
    best = (scores - error).masked_fill(chosen, -torch.inf).amax(1)
    assert bool((worst >= best).all())

    # The bound itself, of the float32 logits.
    for stream, of_stream in zip(logits, in_float32, strict=True):
        by_norm, by_lost, has = stream.of_rows.double().T.unsqueeze(2)
        norms, lost, highest, lowest = stream.of_latents.double()
        low = stream.low.double()
        slack = by_norm * norms + by_lost * lost + UNIT * low.abs()
        assert bool((of_stream <= low + has * highest + slack).all())
        assert bool((of_stream >= low + has * lowest - slack).all())


def test_a_huge_encoder_row_and_rows_that_lack_a_stream():
    """Zero times a norm that overflows bounds nothing."""
    streams = [(6, "normal", "normal"), (5, "normal", "normal")]
    first, second = low_logits(streams, rows=9, latents=90, biases=1.0, missing=True, seed=5)
    first.encoder[7] = 1e30
    SCREEN.fill(first, slice(None))
    indices, _ = SCREEN.select([first, second], 3)
    every = torch.arange(90).expand(9, -1)
    scores = SCREEN.at(first, every) + SCREEN.at(second, every)
    assert torch.equal(indices.sort(dim=1).values, largest(scores, 3).sort(dim=1).values)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, 3e38])
def test_what_is_not_a_number_is_shown_and_what_overflows_is_done_again(broken):
    """The other rows are not disturbed."""
    draws = torch.Generator().manual_seed(0)
    read, encoder = torch.randn(6, 8, generator=draws), torch.randn(300, 8, generator=draws)
    read[2] = broken
    stream = begin(read, encoder, torch.zeros(300), None)
    SCREEN.fill(stream, slice(None))
    indices, values = SCREEN.select([stream], 4)
    assert not values[2].isfinite().all()
    others = [row for row in range(6) if row != 2]
    exact = read.double() @ encoder.double().T
    expected = exact[others].topk(4).indices.sort(dim=1).values
    assert torch.equal(indices[others].sort(dim=1).values, expected)
    assert values[others].isfinite().all()


def test_rows_whose_logits_all_tie_are_done_again_some_at_a_time(monkeypatch):
    """They need memory for all their latents; the pieces are what the rows are alone."""
    draws = torch.Generator().manual_seed(4)
    read, encoder = torch.randn(11, 8, generator=draws), torch.ones(700, 8)
    encoder[650:] = torch.randn(50, 8, generator=draws)
    stream = begin(read, encoder, torch.zeros(700), None)
    SCREEN.fill(stream, slice(None))
    select, sizes = screening._select_again, []

    def counted(streams, k):
        sizes.append(streams[0].low.numel())
        return select(streams, k)

    monkeypatch.setattr(screening, "_MOST_CANDIDATES", 1)
    monkeypatch.setattr(screening, "_select_again", counted)
    at_once = SCREEN.select([stream, stream], 60)
    monkeypatch.setattr(screening, "_LOGITS_AGAIN", 3 * 700)
    in_pieces = SCREEN.select([stream, stream], 60)
    assert sizes == [11 * 700, 3 * 700, 3 * 700, 3 * 700, 2 * 700]
    assert all(torch.equal(a, b) for a, b in zip(at_once, in_pieces, strict=True))
    scores = SCREEN.at(stream, torch.arange(700).expand(11, -1)) * 2
    assert torch.equal(at_once[0].sort(dim=1).values, largest(scores, 60).sort(dim=1).values)


def test_most_rows_are_done_at_once(monkeypatch):
    """With random weights, the worst case of training: trained latents are further apart."""
    logits = low_logits(
        [(96, "normal", "normal"), (64, "normal", "normal")],
        rows=64,
        latents=2048,
        biases=0.01,
        missing=False,
        seed=1,
    )
    again = []
    monkeypatch.setattr(screening, "_select_again", lambda *left: again.append(left))
    SCREEN.select(logits, 16)
    assert not again
    for stream in logits:
        SCREEN.select([stream], 16)
    assert not again


def test_rows_of_many_wide_streams_are_done_at_once(monkeypatch):
    """Where a product in float64 would cost more than all that screening saves."""
    logits = low_logits(
        [(768, "normal", "normal")] * 8, rows=16, latents=2048, biases=0.0, missing=False, seed=1
    )
    again = []
    monkeypatch.setattr(screening, "_select_again", lambda *left: again.append(left))
    SCREEN.select(logits, 2)
    assert not again


def test_a_product_does_not_depend_on_the_others():
    """So a row selects the same latents in any batch, and values can be computed again."""
    draws = torch.Generator().manual_seed(3)
    read, encoder = torch.randn(9, 77, generator=draws), torch.randn(500, 77, generator=draws)
    stream = begin(read, encoder, torch.zeros(500), None)
    every = torch.arange(500).expand(9, -1)
    whole = SCREEN.at(stream, every)
    some = torch.from_numpy(np.random.default_rng(0).integers(0, 500, (4, 3)))
    rows = torch.tensor([7, 1, 0, 8])
    assert torch.equal(SCREEN.at(stream.rows(rows), some), whole[rows].gather(1, some))
