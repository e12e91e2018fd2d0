"""The words of captions, as a sparse matrix of pictures and words.

A word is a run of letters, marks and digits, in lower case. This module must not know codes.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.pictures import Pictures, incidence

LEAST_PICTURES = 5
"""A rarer word cannot name anything: it stays out of the vocabulary."""

LARGEST_VOCABULARY = 20_000
"""Words kept at most, the most frequent ones."""

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


class Words(NamedTuple):
    """Which words the captions of each picture hold.

    Attributes:
        matrix: (pictures, words) int32, 1 where any caption of the picture holds the word; empty
            for pictures that are not analysed.
        vocabulary: The word of each column, the most frequent one first.
    """

    matrix: sparse.csr_matrix
    vocabulary: tuple[str, ...]


def read_words(captions: pa.ChunkedArray, pictures: Pictures) -> Words | None:
    """The words of a cache's captions; None where there are none.

    Args:
        captions: The caption of every row, null where there is none.
        pictures: The pictures of the rows.
    """
    matrices, vocabulary = [], pa.array([], pa.string())
    first = 0
    for chunk in captions.chunks:
        rows = pictures.of_row[first : first + len(chunk)]
        first += len(chunk)
        lists = pc.split_pattern_regex(pc.utf8_lower(pc.fill_null(chunk, "")), _BETWEEN_WORDS)
        words = lists.flatten()
        of_row = np.repeat(rows, np.asarray(lists.value_lengths(), dtype=np.int64))
        # What an apostrophe leaves of its word, and the empty ends of a caption, are no words.
        kept = np.asarray(pc.greater(pc.binary_length(words), 1)) & pictures.analysed[of_row]
        words = words.filter(pa.array(kept))
        vocabulary = pa.concat_arrays([vocabulary, words]).unique()
        columns = np.asarray(pc.index_in(words, vocabulary), dtype=np.int64)
        matrices.append((of_row[kept], columns))
    if not len(vocabulary):
        return None
    lines, columns = (np.concatenate(parts) for parts in zip(*matrices, strict=True))
    matrix = incidence(lines, columns, (len(pictures), len(vocabulary)))
    return _keep_frequent(matrix, vocabulary.to_pylist())


def matches(captions: pa.ChunkedArray, phrases: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which captions hold one of some words or phrases: whole words, in either case; (rows,).

    Args:
        captions: The caption of every row, null where there is none.
        phrases: Words or phrases; a space in a phrase matches any white space.
    """
    choices = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)
    found = (bool(c and pattern.search(c)) for c in captions.to_pylist())
    return np.fromiter(found, dtype=np.bool_, count=len(captions))


def _keep_frequent(matrix: sparse.csr_matrix, vocabulary: list[str]) -> Words | None:
    counts = np.bincount(matrix.indices, minlength=len(vocabulary))
    frequent = [w for w in range(len(vocabulary)) if counts[w] >= LEAST_PICTURES]
    order = sorted(frequent, key=lambda w: (-counts[w], vocabulary[w]))[:LARGEST_VOCABULARY]
    if not order:
        return None
    kept = matrix[:, order].tocsr()
    kept.sort_indices()
    return Words(kept, tuple(vocabulary[w] for w in order))
