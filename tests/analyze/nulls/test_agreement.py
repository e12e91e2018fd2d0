"""Agreement above chance, where latents mean the same in two streams, and where they do not.

Images have one to six rows, latents are active on 0.2% to 30% of the rows, and a latent prefers
some classes. In the null a latent prefers other classes in each stream: what it stands for in one
says nothing of the other, however many rows there are.
"""

import numpy as np
import pytest

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.metrics.agreement.counts import count_classes
from sparc.analyze.metrics.agreement.table import table as agreement_table
from sparc.analyze.rows import top_rows
from sparc.analyze.rows.images import Images

LATENTS, CLASSES, STREAMS = 96, 30, ("a", "b", "c")


def excesses(generator, make_labels, rows, shared):
    """The table's rows of agreement over all latents, by depth, in a world made at random.

    Args:
        generator: Everything follows from it.
        make_labels: The fixture.
        rows: About how many rows.
        shared: The share of the latents that prefer the same classes in all streams.
    """
    captions = generator.integers(1, 7, rows * 2 // 7)
    of_row = np.repeat(np.arange(len(captions)), captions)
    often = 1 / np.arange(1, CLASSES + 1)
    of_image = generator.choice(CLASSES, len(captions), p=often / often.sum())
    parents = [None] * 5 + [c % 5 for c in range(CLASSES - 5)]
    labels = make_labels([[c] for c in of_image[of_row]], parents)
    frequency = np.exp(generator.uniform(np.log(0.002), np.log(0.3), LATENTS))
    alike = np.exp(1.5 * generator.normal(size=(LATENTS, CLASSES)))
    values = {}
    for stream in STREAMS:
        own = np.exp(1.5 * generator.normal(size=(LATENTS, CLASSES)))
        prefers = np.where(np.arange(LATENTS)[:, None] < shared * LATENTS, alike, own)
        chance = prefers / prefers[:, of_image].mean(axis=1, keepdims=True) * frequency[:, None]
        active = generator.random((len(captions), LATENTS)) < chance[:, of_image].T
        # An image has one feature in an image stream, and each caption its own in a text stream.
        active = active[of_row]
        if stream == "c":
            active &= generator.random(active.shape) < 0.8
        values[stream] = (active * generator.random(active.shape)).astype(np.float32)
    indices = np.tile(np.arange(LATENTS, dtype=np.uint8), (len(of_row), 1))
    codes = CodeRows(np.arange(len(of_row)), dict.fromkeys(STREAMS, indices), values)
    images = Images(of_row, np.ones(len(captions), bool))
    table = agreement_table(
        count_classes(codes, labels, LATENTS),
        [top_rows.strongest(codes, stream, top_rows.with_spare(100)) for stream in STREAMS],
        labels,
        CodeSet("independent"),
        top=100,
        images=images,
        sample=codes,
        seed=int(generator.integers(1000)),
    )
    return [x for x in table.to_pylist() if x["averaged_over"] == "alive" and x["depth"] > 0]


@pytest.mark.parametrize(("rows", "worlds"), [(500, 12), (5_000, 6), (60_000, 3)])
def test_latents_that_mean_other_things_agree_no_more_than_any_two(make_labels, rows, worlds):
    generator = np.random.default_rng(rows)
    actual = [excesses(generator, make_labels, rows, 0.0) for _ in range(worlds)]
    excess, low, high, value = (
        np.array([[line[name] for line in lines] for lines in actual])
        for name in ("excess", "excess_low", "excess_high", "value")
    )
    # They do agree, and the more so the more rows there are: that is what chance gives.
    assert value.mean() > 0.1
    assert abs(excess.mean()) < 0.05
    assert ((low <= 0) & (high >= 0)).mean() > 0.85


@pytest.mark.parametrize("rows", [500, 5_000])
def test_the_excess_is_the_share_of_latents_that_mean_the_same(make_labels, rows):
    generator = np.random.default_rng(rows)
    none, half, every = (
        np.mean([x["excess"] for x in excesses(generator, make_labels, rows, share)])
        for share in (0.0, 0.5, 1.0)
    )
    assert none < 0.1 < half < every
