"""The words of captions: which there are, and which images have them.

A word is a run of letters, marks and digits, in lower case. Captions are read a batch at a time and
more than once, since those of very many images do not fit into memory. This module must not know
codes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.rows.images import Images, incidence
from sparc.common.cache.reader import ActivationCache

LEAST_IMAGES = 5
"""Images that a word of the vocabulary is in, at least."""

LARGEST_VOCABULARY = 20_000
"""Words of the vocabulary at most; the most frequent ones are kept."""

_CAPTIONS = 1 << 16
"""Captions read at a time."""

_WAITING = 1 << 16
"""Words that wait to be added up, at least."""

Integers = npt.NDArray[np.int64]

_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


class Words(NamedTuple):
    """Which words of a vocabulary the captions of images hold.

    Attributes:
        matrix: Of some images, (n, words) int32, 1 where any caption of the image has the word.
        images: On how many images of each stratum each word is, (words, strata) int64.
    """

    matrix: sparse.csr_matrix
    images: npt.NDArray[np.int64]


class CaptionWords:
    """The words of a cache's captions.

    Args:
        captions: Begins to read the captions of all rows, in consecutive arrays; null where a row
            has none.
        images: The images of the rows. Words of images that are not analysed do not count.
    """

    def __init__(self, captions: Callable[[], Iterable[pa.Array]], images: Images) -> None:
        self._captions = captions
        self._images = images

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """The words of at least `LEAST_IMAGES` images, the most frequent one first.

        The first of `LARGEST_VOCABULARY` words are kept.
        """
        counted, waiting = _Counted.nothing(), [_Counted.nothing()]
        for words, of_word in self._whole_images():
            encoded = words.dictionary_encode()
            number = np.asarray(encoded.indices, dtype=np.int64)
            shape = int(of_word[-1] - of_word[0]) + 1, len(encoded.dictionary)
            held = incidence(of_word - of_word[0], number, shape)
            waiting.append(
                _Counted(encoded.dictionary, np.bincount(held.indices, minlength=shape[1]))
            )
            # Added up when there is as much as before: what is rare is sorted a few times only.
            if sum(len(part.words) for part in waiting) > max(len(counted.words), _WAITING):
                counted, waiting = _Counted.sum_of([counted, *waiting]), []
        counted = _Counted.sum_of([counted, *waiting])
        frequent = np.flatnonzero(counted.images >= LEAST_IMAGES)
        names = counted.words.take(pa.array(frequent)).to_pylist()
        by_rank = sorted(zip((-counted.images[frequent]).tolist(), names, strict=True))
        return tuple(name for _, name in by_rank[:LARGEST_VOCABULARY])

    def of(self, chosen: Integers, stratum: npt.NDArray[np.integer]) -> Words:
        """The words of the vocabulary that images hold.

        Args:
            chosen: The images whose words are wanted one by one, ascending, (n,).
            stratum: The stratum of each image, from 0, (images,).
        """
        vocabulary, strata = pa.array(self.vocabulary, pa.string()), int(stratum.max()) + 1
        counts = np.zeros(len(vocabulary) * strata, np.int64)
        line, column = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for words, of_word in self._whole_images():
            known = pc.index_in(words, vocabulary)
            some = np.flatnonzero(np.asarray(known.is_valid()))
            if not len(some):
                continue
            number, image = np.asarray(known.take(pa.array(some)), np.int64), of_word[some]
            held = incidence(
                image - image[0], number, (int(image[-1] - image[0]) + 1, len(vocabulary))
            )
            image = image[0] + np.repeat(np.arange(held.shape[0]), np.diff(held.indptr))
            word = held.indices.astype(np.int64)
            counts += np.bincount(word * strata + stratum[image], minlength=len(counts))
            place = np.minimum(np.searchsorted(chosen, image), max(0, len(chosen) - 1))
            wanted = chosen[place] == image if len(chosen) else np.zeros(len(image), np.bool_)
            line.append(place[wanted])
            column.append(word[wanted])
        shape = len(chosen), len(vocabulary)
        matrix = incidence(np.concatenate(line), np.concatenate(column), shape)
        return Words(matrix, counts.reshape(-1, strata))

    def _whole_images(self) -> Iterator[tuple[pa.Array, Integers]]:
        """Words of captions and the image of each, ascending; no image is divided.

        There are as many arrays as batches of captions, fewer where there is no word.
        """
        held, first = pa.array([], pa.string()), 0
        for part in self._captions():
            held = pa.concat_arrays([held, part])
            of_row = self._images.of_row[first : first + len(held)]
            # The rows of the last image wait for those of the next batch.
            whole = int(np.searchsorted(of_row, of_row[-1]))
            yield from self._words(held.slice(0, whole), of_row[:whole])
            held, first = held.slice(whole), first + whole
        yield from self._words(held, self._images.of_row[first : first + len(held)])

    def _words(self, captions: pa.Array, of_row: Integers) -> Iterator[tuple[pa.Array, Integers]]:
        lists = split_words(captions)
        words = lists.flatten()
        of_word = np.repeat(of_row, np.asarray(lists.value_lengths(), dtype=np.int64))
        # Single letters split off by an apostrophe, and empty ends of a caption, are no words.
        kept = np.asarray(pc.greater(pc.binary_length(words), 1)) & self._images.analysed[of_word]
        if kept.any():
            yield words.filter(pa.array(kept)), of_word[kept]


def words_of(cache: ActivationCache, images: Images) -> CaptionWords:
    """The words of a cache's captions; `images` are those of its rows."""
    return CaptionWords(
        lambda: (batch.column("caption") for batch in cache.row_batches(["caption"], _CAPTIONS)),
        images,
    )


class _Counted(NamedTuple):
    """Words, and on how many images each is; arrays of equal length."""

    words: pa.Array
    images: Integers

    @classmethod
    def nothing(cls) -> "_Counted":
        return cls(pa.array([], pa.string()), np.zeros(0, np.int64))

    @classmethod
    def sum_of(cls, parts: "Sequence[_Counted]") -> "_Counted":
        """The words of all parts, each once."""
        table = pa.table(
            {
                "word": pa.chunked_array([part.words for part in parts]),
                "images": np.concatenate([part.images for part in parts]),
            }
        )
        total = table.group_by("word").aggregate([("images", "sum")])
        return cls(total["word"].combine_chunks(), np.asarray(total["images_sum"], np.int64))


def split_words(texts: pa.Array) -> pa.ListArray:
    """The words of each text, in lower case; its ends may be empty ones. A null has none."""
    return pc.split_pattern_regex(pc.utf8_lower(pc.fill_null(texts, "")), _BETWEEN_WORDS)


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
