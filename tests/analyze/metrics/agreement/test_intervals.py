"""Intervals of agreement against dense arrays, as REPORT.md defines them, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from sparc.analyze.codes.code_rows import CodeRows
from sparc.analyze.maths.mispairing import DRAWS, mispaired, same_latents
from sparc.analyze.rows.images import Images

L, TOP, SEED = 10, 3, 42  # The first two are those of `measured`.


def classes_at(label_ids, parents, depth):
    """How many of a row's classes have each class as their ancestor at a depth: float64."""

    def lift(one):
        chain = [one]
        while parents[chain[-1]] is not None:
            chain.append(parents[chain[-1]])
        return chain[::-1][min(depth, len(chain)) - 1] if depth else 0

    result = np.zeros((len(label_ids), len(parents)))
    for row, ids in enumerate(label_ids):
        for one in set(ids):
            result[row, lift(one)] += 1
    return result


def strongest(values, length=TOP):
    """1 on the strongest rows of each latent."""
    order = np.argsort(-values, axis=0, kind="stable")[:length]
    result = np.zeros_like(values)
    np.put_along_axis(result, order, 1, axis=0)
    return result * (values > 0)


def by_image(rows, of_row):
    """Sums over the rows of each image."""
    result = np.zeros((of_row[-1] + 1, *rows.shape[1:]))
    np.add.at(result, of_row, rows)
    return result


def shrunk_noise(first, second):
    squares, rows = ((first - second) ** 2).sum(axis=0), (first + second).sum(axis=0)
    return (squares + 4 * squares.sum() / max(rows.sum(), 1)) / (rows + 4)


class Dense:
    """What is measured of one restriction at one depth, for the means over all latents.

    Args:
        active: By stream, on which labelled rows the latents are counted, (rows, L) 0 or 1.
        listed: By stream, on how many images each latent is active, at least.
        fixed: By stream, which latents have more rows than are counted.
        carried: As `classes_at`.
        of_row: The image of each row.
        labelled: Which images have a label.
        sampled: Which of them are sampled.
    """

    def __init__(self, active, listed, fixed, carried, of_row, labelled, sampled):
        self.active, self.listed, self.fixed, self.carried = active, listed, fixed, carried
        self.of_row, self.labelled, self.sampled = of_row, labelled, sampled

    def sums(self, pairing, noises):
        """Of each latent its J; the influences of images; the rest; the spread of absent ones."""
        number = len(pairing.pairs)
        values = np.full((number, L), np.nan)
        influences = np.zeros((1 + number, self.of_row[-1] + 1))
        rest, spread = np.zeros(1 + number), np.zeros((1 + number, L))
        counts = [x.T @ self.carried for x in self.active]
        masses = [x.sum(axis=1) for x in counts]
        for at, latent in enumerate(pairing.latents):
            others = [pair.partners[latent] for pair in pairing.pairs]
            alive = [
                masses[pair.first][latent] > 0 and masses[pair.second][other] > 0
                for pair, other in zip(pairing.pairs, others, strict=True)
            ]
            for k, (pair, other) in enumerate(zip(pairing.pairs, others, strict=True)):
                if not alive[k]:
                    continue
                a, b = counts[pair.first][latent], counts[pair.second][other]
                shared, either = np.minimum(a, b).sum(), np.maximum(a, b).sum()
                values[k, latent] = shared / either
                by_shared, by_total = (shared + either) / either**2, -shared / either**2
                variance = noises[k][at] * (a + b) - (a - b) ** 2 / self.labelled.sum()
                s = np.sqrt(np.maximum(variance, 1e-12))
                z = (b - a) / s
                p, density = stats.norm.cdf(z), stats.norm.pdf(z)
                mean, square = -z * p - density, (z**2 + 1) * p + z * density
                left = by_shared**2 * (s**2 * np.maximum(square - mean**2 - p**2, 0)).sum()
                moved = np.zeros(len(self.carried))
                for stream, which, slope in (
                    (pair.first, latent, by_total + by_shared * p),
                    (pair.second, other, by_total + by_shared * (1 - p)),
                ):
                    of_rows, x = self.carried @ slope, self.active[stream][:, which]
                    if self.fixed[stream][which]:
                        in_list = max(np.count_nonzero(by_image(x, self.of_row)), 2)
                        of_rows = (of_rows - x @ of_rows / x.sum()) * np.sqrt(
                            in_list / (in_list - 1)
                        )
                    moved += x * of_rows
                images = min(self.listed[pair.first][latent], self.listed[pair.second][other])
                absent = np.sqrt(np.exp(-images) * (1 - np.exp(-images)))
                for line, weight in ((1 + k, 1), (0, 1 / sum(alive))):
                    influences[line] += weight * by_image(moved, self.of_row)
                    rest[line] += weight**2 * left
                    spread[line, latent] += weight * absent
        known = (~np.isnan(values)).sum(axis=0)
        mean = np.where(known > 0, np.nansum(values, axis=0) / known.clip(1), np.nan)
        return np.vstack([mean, values]), influences[:, self.sampled], rest, spread

    def covariance(self, x, y):
        return np.cov(x, y)[0, 1] * self.labelled.sum()


def interval_parts(dense, pairings, noises):
    """The table's figures of one restriction and depth with half widths, line by line."""
    own, *draws = (dense.sums(p, of) for p, of in zip(pairings, noises, strict=True))
    for line in range(len(own[0])):
        values, moved = own[0][line], own[1][line]
        alive = np.count_nonzero(~np.isnan(values))
        chances = [np.nanmean(draw[0][line]) for draw in draws]
        counted = [np.count_nonzero(~np.isnan(draw[0][line])) for draw in draws]
        two = [draw[1][line] / n / 2 for draw, n in zip(draws[:2], counted, strict=False)]
        of_chance = np.sum(two, axis=0)
        rest = np.mean([draw[2][line] / n**2 for draw, n in zip(draws[:2], counted, strict=False)])
        for number in (L, alive):
            value, share = np.nansum(values) / number, alive / number
            off = values - (value if number == alive else 0)
            images = dense.covariance(moved, moved) + own[2][line]
            images = (images + np.nansum((off * own[3][line]) ** 2)) / number**2
            t = stats.t.ppf(0.975, moved.size - 1)
            chance, sd = share * np.mean(chances), share * np.std(chances, ddof=1)
            by_value, by_chance = 1 / (1 - chance), -(1 - value) / (1 - chance) ** 2
            of_draws = share**2 * (dense.covariance(of_chance, of_chance) + rest / DRAWS)
            both = by_value**2 * images + by_chance**2 * of_draws
            both += 2 * by_value * by_chance * share / number * dense.covariance(moved, of_chance)
            pairing = sd * np.sqrt(np.mean(counted) / alive + 1 / DRAWS) / (1 - chance)
            excess = np.hypot(t * np.sqrt(both), stats.t.ppf(0.975, DRAWS - 1) * pairing)
            yield value, t * np.sqrt(images), (value - chance) / (1 - chance), excess


@pytest.mark.parametrize(("seed", "images", "share"), [(0, 16, 1), (1, 40, 1), (2, 60, 0.5)])
def test_intervals_are_those_of_dense_arrays(
    measured, random_codes, dense, make_labels, parents, seed, images, share
):
    """One to three rows per image, some without a label; all images are sampled, or half."""
    generator = np.random.default_rng(seed)
    of_row = np.repeat(np.arange(images), generator.integers(1, 4, images))
    label_ids = [generator.integers(0, 12, generator.integers(0, 4)).tolist() for _ in of_row]
    codes = random_codes(seed, rows=len(of_row), latents=L, k=4, streams=["a", "b", "c"])
    chosen = np.flatnonzero(generator.random(images) < share)
    table = measured(
        [codes],
        make_labels(label_ids, parents),
        images=Images(of_row, np.ones(images, bool)),
        sample=np.flatnonzero(np.isin(of_row, chosen)),
        seed=SEED,
    ).to_pylist()

    has_label = np.array([bool(ids) for ids in label_ids])
    labelled = by_image(has_label.astype(float), of_row) > 0
    sampled = labelled & np.isin(np.arange(images), chosen)
    values = [dense(codes, stream, L) * has_label[:, None] for stream in codes.streams]
    masses = np.array([(x > 0).T @ classes_at(label_ids, parents, 3).sum(axis=1) for x in values])
    pairings = [same_latents(3, L), *(mispaired(masses, seed=SEED, draw=d) for d in range(DRAWS))]
    cut = np.any([(x > 0).sum(axis=0) > TOP for x in values], axis=0)
    listed = [
        np.maximum(
            (by_image(strongest(x, TOP + 2), of_row) > 0).sum(axis=0),
            (by_image(x, of_row)[sampled] > 0).sum(axis=0),
        )
        for x in values
    ]
    every = [(x > 0).astype(float) for x in values]
    top = [strongest(x) for x in values]

    def noises(restricted):
        for p in pairings:
            of_pairing = []
            for pair in p.pairs:
                first, second = p.latents, pair.partners[p.latents]
                xs = [by_image(x, of_row)[sampled] for x in every]
                noise = shrunk_noise(xs[pair.first][:, first], xs[pair.second][:, second])
                if restricted:
                    at = p.involves(cut)
                    xs = [by_image(x, of_row) for x in top]
                    first, second = first[at], second[at]
                    noise[at] = shrunk_noise(xs[pair.first][:, first], xs[pair.second][:, second])
                of_pairing.append(noise)
            yield of_pairing

    lines = iter(table)
    for active, fixed, restricted in (
        (every, [np.zeros(L, bool)] * 3, False),
        (top, [(x > 0).sum(axis=0) > TOP for x in values], True),
    ):
        for depth in (3, 2, 1, 0):
            carried = classes_at(label_ids, parents, depth)
            measured_here = Dense(active, listed, fixed, carried, of_row, labelled, sampled)
            for value, margin, excess, of_excess in interval_parts(
                measured_here, pairings, list(noises(restricted))
            ):
                line = next(lines)
                assert line["value"] == pytest.approx(value)
                assert line["value_low"] == pytest.approx(max(0, value - margin), abs=2e-4)
                assert line["value_high"] == pytest.approx(min(1, value + margin), abs=2e-4)
                assert line["excess"] == pytest.approx(excess, abs=1e-12)
                assert line["excess_low"] == pytest.approx(excess - of_excess, abs=2e-4)
                assert line["excess_high"] == pytest.approx(min(1, excess + of_excess), abs=2e-4)
    assert next(lines, None) is None


@pytest.mark.parametrize("captions", [1, 4])
def test_intervals_have_their_coverage(measured, make_labels, captions):
    """Sets drawn from one world, in which latents have classes that they prefer in each stream.

    The truth is the mean figure over all sets. Intervals half as wide hold it in about 70% of them,
    and so do intervals that count the equal rows of one image four times.
    """
    generator = np.random.default_rng(0)
    images, classes, streams, sets = 150, 8, ("a", "b", "c"), 100
    prefers = generator.random((L, classes)) < 0.3
    own = generator.random((len(streams), L, classes)) < 0.15
    chance = 0.05 + 0.4 * prefers + 0.3 * own
    every_image = Images(np.repeat(np.arange(images), captions), np.ones(images, bool))
    results = []
    for _ in range(sets):
        of_image = generator.integers(0, classes, images)
        labels = make_labels([[c] for c in of_image.repeat(captions)], [None] * classes)
        drawn = generator.random((images, L))  # in part the same in all streams
        values = {}
        for position, stream in enumerate(streams):
            fresh = generator.random((images, L))
            used = np.where(generator.random((images, L)) < 0.5, drawn, fresh)
            active = used < chance[position][:, of_image].T
            values[stream] = active.astype(np.float32).repeat(captions, axis=0)
        indices = np.tile(np.arange(L, dtype=np.uint8), (images * captions, 1))
        codes = CodeRows(np.arange(len(indices)), dict.fromkeys(streams, indices), values)
        table = measured([codes], labels, images=every_image, sample=codes.rows)
        results.append([table[name].to_numpy() for name in ("value", "value_low", "value_high")])
    at = [i for i, name in enumerate(table["restriction"].to_pylist()) if name == "all_rows"]
    value, low, high = np.moveaxis(np.array(results)[..., at], 1, 0)
    truth = value.mean(axis=0)
    assert (((low <= truth) & (truth <= high)).mean(axis=0) >= 0.93).all()
    # Nor are they much wider than necessary.
    width = (high - low).mean(axis=0) / (2 * stats.norm.ppf(0.975) * value.std(axis=0))
    assert ((width > 0.9) & (width < 1.2)).all()
