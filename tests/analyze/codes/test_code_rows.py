import numpy as np
import pytest

from sparc.analyze.codes.code_rows import CodeRows, concatenate


@pytest.fixture
def codes(random_codes):
    return random_codes(3, rows=11, latents=9, k=4, streams=["a", "b"], joint=True)


def test_the_matrix_has_the_values_of_active_latents(codes, dense):
    for stream in codes.streams:
        matrix = codes.matrix(stream, 9)
        assert matrix.has_canonical_format
        assert matrix.nnz == np.count_nonzero(codes.values[stream] > 0)
        assert (matrix.toarray() == dense(codes, stream, 9)).all()


def same(a: CodeRows, b: CodeRows) -> bool:
    return (a.rows == b.rows).all() and all(
        (a.indices[s] == b.indices[s]).all() and (a.values[s] == b.values[s]).all()
        for s in a.streams
    )


def test_batches_and_their_concatenation_are_the_rows(codes):
    batches = list(codes.batches(4))
    assert [len(batch.rows) for batch in batches] == [4, 4, 3]
    assert same(concatenate(batches), codes)


def test_streams_of_joint_codes_keep_sharing_their_indices(codes):
    for some in (codes.take(np.array([5, 2])), concatenate(list(codes.batches(4)))):
        assert some.indices["a"] is some.indices["b"]
