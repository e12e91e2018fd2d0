"""The words of captions, as a sparse matrix over images and words.

A word is a run of letters, marks and digits, in lower case. This module must not know codes.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.rows.images import Images, incidence

LEAST_IMAGES = 5
"""Images that a word of the vocabulary is in, at least."""

LARGEST_VOCABULARY = 20_000
"""Words of the vocabulary at most; the most frequent ones are kept."""

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


class Words(NamedTuple):
    """Which words the captions of each image hold.

    Attributes:
        matrix: (images, words) int32, 1 where any caption of the image has the word; 0 for images
            that are not analysed.
        vocabulary: The word of each column, the most frequent one first.
    """

    matrix: sparse.csr_matrix
    vocabulary: tuple[str, ...]


def split_words(texts: pa.Array) -> pa.ListArray:
    """The words of each text, in lower case; its ends may be empty ones. A null has none."""
    return pc.split_pattern_regex(pc.utf8_lower(pc.fill_null(texts, "")), _BETWEEN_WORDS)


def read_words(captions: Iterable[pa.Array], images: Images) -> Words | None:
    """The words of a cache's captions; None where there are none.

    Args:
        captions: The captions of all rows, in consecutive arrays; null where a row has none.
        images: The images of the rows.
    """
    vocabulary = pa.array([], pa.string())
    columns, lengths = [], np.zeros(len(images), np.int64)
    first = 0
    for part in captions:
        of_row = images.of_row[first : first + len(part)]
        first += len(part)
        lists = split_words(part)
        words = lists.flatten()
        of_word = np.repeat(of_row, np.asarray(lists.value_lengths(), dtype=np.int64))
        # Single letters split off by an apostrophe, and empty ends of a caption, are no words.
        kept = np.asarray(pc.greater(pc.binary_length(words), 1)) & images.analysed[of_word]
        words, of_word = words.filter(pa.array(kept)), of_word[kept]
        vocabulary = pa.concat_arrays([vocabulary, words]).unique()
        if not len(words):
            continue
        known = np.asarray(pc.index_in(words, vocabulary), dtype=np.int64)
        span = slice(int(of_word[0]), int(of_word[-1]) + 1)
        shape = (span.stop - span.start, len(vocabulary))
        held = incidence(of_word - span.start, known, shape)
        columns.append(held.indices)
        lengths[span] += np.diff(held.indptr)
    if not columns:
        return None
    word = np.concatenate(columns)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    shape = (len(images), len(vocabulary))
    matrix = sparse.csr_matrix((np.ones(len(word), np.int32), word, ends), shape=shape)
    # An image whose captions lie in two arrays may have a word twice.
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return _keep_frequent(matrix, vocabulary.to_pylist())


def matches(captions: pa.Array, phrases: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which captions have one of some words or phrases, as whole words, ignoring case; (rows,).

    Args:
        captions: The captions of some rows; null where a row has none.
        phrases: Words or phrases; a space in a phrase matches any white space.
    """
    choices = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in phrases)
    pattern = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.IGNORECASE)
    matched = (bool(c and pattern.search(c)) for c in captions.to_pylist())
    return np.fromiter(matched, dtype=np.bool_, count=len(captions))


def _keep_frequent(matrix: sparse.csr_matrix, vocabulary: list[str]) -> Words | None:
    counts = np.bincount(matrix.indices, minlength=len(vocabulary))
    frequent = [w for w in range(len(vocabulary)) if counts[w] >= LEAST_IMAGES]
    order = sorted(frequent, key=lambda w: (-counts[w], vocabulary[w]))[:LARGEST_VOCABULARY]
    if not order:
        return None
    kept = matrix[:, order].tocsr()
    kept.sort_indices()
    return Words(kept, tuple(vocabulary[w] for w in order))
