"""Purity against plain loops over rows, and on hand-made rows."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparc.analyze import purity, top_rows
from sparc.analyze.codes import CodeRows, CodeSet, concatenate

CODE_SET = CodeSet("independent")


def ancestors(class_id, parents):
    chain = [class_id]
    while parents[chain[0]] is not None:
        chain.insert(0, parents[chain[0]])
    return chain


def tabulate(parts, labels, valid, latents, top):
    carried = purity.carried_classes(labels)

    def count(matrix):
        return purity.merge([purity.measure(part, matrix, latents) for part in parts])

    whole = concatenate([part.take(labels.labelled[part.rows]) for part in parts])
    lists = {stream: top_rows.measure(whole, stream, top) for stream in whole.streams}
    return purity.table(count, lists, carried, valid, CODE_SET)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), at=st.lists(st.integers(1, 29)))
def test_every_number_is_that_of_plain_loops(
    random_codes, dense, split, make_labels, parents, seed, at
):
    generator = np.random.default_rng(seed)
    rows, latents, top = 30, 10, 3
    label_ids = [generator.integers(0, len(parents), r % 4).tolist() for r in range(rows)]
    labels = make_labels(label_ids, parents)
    valid = generator.random(rows) < 0.8
    valid[[1, 2]] = True  # labelled
    codes = random_codes(seed, rows=rows, latents=latents, k=3, streams="ab")
    parts = [p.take(np.flatnonzero(valid[p.rows])) for p in split(codes, at)]
    found = tabulate(parts, labels, valid, latents, top).to_pylist()
    assert len(found) == 2 * 3 * 2 * latents

    labelled = [r for r in range(rows) if valid[r] and label_ids[r]]
    for line in found:
        depth = line["depth"]

        def carried(row, depth=depth):
            chains = [ancestors(c, parents) for c in label_ids[row]]
            return {chain[min(depth, len(chain)) - 1] for chain in chains}

        values = dense(codes, line["stream"], latents)[:, line["latent"]]
        active = [r for r in labelled if values[r] > 0]
        if line["restriction"] == "top_rows":
            active = sorted(active, key=lambda r: (-values[r], r))[:top]
        assert line["rows"] == len(active)
        if not active:
            assert line["rows_class"] == 0
            assert [line[c] for c in ("class_id", "purity", "base_rate", "lift")] == [None] * 4
            continue
        overall = Counter(c for r in labelled for c in carried(r))
        inside = Counter(c for r in active for c in carried(r))
        most = max(inside.values())
        rarest = min(overall[c] for c, n in inside.items() if n == most)
        assert inside[line["class_id"]] == line["rows_class"] == most
        assert overall[line["class_id"]] == rarest
        assert line["purity"] == pytest.approx(most / len(active))
        assert line["base_rate"] == pytest.approx(rarest / len(labelled))
        assert line["lift"] == pytest.approx(line["purity"] / line["base_rate"])


def test_a_pure_latent_a_mixed_one_and_a_dead_one(make_labels):
    """Rows 0 to 3 are cats (class 1, below animal 0), rows 4 to 7 dogs (2), rows 8 to 9 cars (3).
    Latent 0 knows cats, latent 1 animals, most strongly dogs; nothing makes latent 2 active."""
    labels = make_labels([[1]] * 4 + [[2, 1]] + [[2]] * 3 + [[3]] * 2 + [[]], [None, 0, 0, None])
    values = np.zeros((11, 3), np.float32)
    values[:4, 0] = 1
    values[:8, 1] = [1] * 4 + [3] * 4
    values[10, :] = 9  # a row without a label
    indices = np.tile(np.arange(3, dtype=np.uint8), (11, 1))
    codes = CodeRows(np.arange(11), {"a": indices}, {"a": values})
    table = tabulate([codes], labels, np.ones(11, np.bool_), 3, top=4)
    found = {
        (x["restriction"], x["depth"], x["latent"]): (
            x["class_id"], x["rows"], x["rows_class"], x["purity"], x["base_rate"]
        )
        for x in table.to_pylist()
    }  # fmt: skip
    assert found["all_rows", 2, 0] == (1, 4, 4, 1, 0.5)
    assert found["all_rows", 1, 0] == (0, 4, 4, 1, 0.8)
    # Row 4 has a cat and a dog: five cats and four dogs, but animals only once each.
    assert found["all_rows", 2, 1] == (1, 8, 5, 5 / 8, 0.5)
    assert found["all_rows", 1, 1] == (0, 8, 8, 1, 0.8)
    assert found["top_rows", 2, 1] == (2, 4, 4, 1, 0.4)
    assert found["all_rows", 2, 2] == found["top_rows", 1, 2] == (None, 0, 0, None, None)
    means = {
        (x["restriction"], x["depth"]): (x["latents"], x["purity"], x["base_rate"])
        for x in purity.means(table, CODE_SET).to_pylist()
    }
    assert means["all_rows", 2] == (2, pytest.approx(13 / 16), 0.5)
    assert means["top_rows", 1] == (2, 1, 0.8)


def test_labels_are_left_as_they_are(make_labels):
    labels = make_labels([[1, 2], [2]], [None, 0, 0])
    before = labels.matrix.toarray()
    purity.carried_classes(labels)
    assert (labels.matrix.toarray() == before).all()
