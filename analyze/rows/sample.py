"""The images that retrieval, probes and classification are measured on.

This module must not know what is measured.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from sparc.analyze.rows.folds import FOLDS
from sparc.analyze.rows.images import Images, begins, incidence
from sparc.common.streams.info import Modality

TRAIN, VALIDATION, TEST = 0, 1, 2
"""The parts of a split: probes are fitted, selected and scored on one each."""

LEAST_IMAGES = 3
"""Images with and without a class that each part needs, for the class to be kept."""


# ---------------------------------------------------------------------- one row of each image


class SplitImages(NamedTuple):
    """Labelled images, split in three parts.

    Attributes:
        labels: (images, classes) bool, of the classes that are kept.
        parts: The part of each image, (images,).
        folds: The fold that each test image is left out with, from 1; 0 for the others, (images,).
    """

    labels: npt.NDArray[np.bool_]
    parts: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]


def draw_images(
    images: Images, flags: npt.NDArray[np.bool_], size: int, seed: int
) -> npt.NDArray[np.int64]:
    """The first flagged rows of up to `size` images drawn at random, ascending.

    Args:
        images: The images of the cache's rows.
        flags: Which rows may be drawn, (rows,).
        size: Images at most.
        seed: With the number of images, all that decides.
    """
    first = images.first_rows(flags)
    generator = np.random.default_rng([seed, len(first)])
    return np.sort(generator.permutation(first)[:size])


def split(count: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """The part of each of some images, (count,): half train, a quarter each validation and test."""
    parts = np.repeat([TRAIN, VALIDATION, TEST], [count - 2 * (count // 4), count // 4, count // 4])
    return generator.permutation(parts)


def split_images(labels: sparse.csr_matrix, seed: int) -> SplitImages:
    """Split images, and keep the classes that every part has enough of.

    Args:
        labels: Which classes the images carry, (images, classes), 0 or 1.
        seed: Decides the parts and the folds.
    """
    generator = np.random.default_rng(seed)
    parts = split(labels.shape[0], generator)
    tested = generator.permutation(np.flatnonzero(parts == TEST))
    folds = np.zeros_like(parts)
    folds[tested] = 1 + np.arange(len(tested)) % FOLDS
    dense = np.asarray(labels.todense()) > 0
    kept = np.ones(dense.shape[1], dtype=np.bool_)
    for part in (TRAIN, VALIDATION, TEST):
        carrying = dense[parts == part].sum(axis=0)
        kept &= np.minimum(carrying, (parts == part).sum() - carrying) >= LEAST_IMAGES
    return SplitImages(dense[:, kept], parts, folds)


# ---------------------------------------------------------------------- all rows of each image


class Sample(NamedTuple):
    """The rows that retrieval is measured on: whole images.

    Attributes:
        rows: Rows of the cache, ascending, (n,).
        images: The image of each row, numbered from 0, ascending, (n,).
        texts: The text of each row's caption, numbered from 0, equal texts alike; -1 where it is
            unknown, (n,).
    """

    rows: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    texts: npt.NDArray[np.int64]

    def with_captions(self, captions: pa.Array) -> "Sample":
        """The same rows with their captions, (n,), null where a row has none."""
        numbers = pc.fill_null(pc.dictionary_encode(captions).indices, -1)
        return self._replace(texts=np.asarray(numbers, dtype=np.int64))

    def stand_ins(self, modality: Modality) -> npt.NDArray[np.int64]:
        """Positions of the rows that stand for what a stream of a modality encodes.

        In a text stream every row stands for its caption, in an image stream the first row of each
        image for the image.
        """
        if modality == "text":
            return np.arange(len(self.rows))
        return np.unique(self.images, return_index=True)[1]

    def relevant(self, source: Modality, target: Modality) -> sparse.csr_matrix:
        """Which candidates are relevant to each query, (queries, candidates); 1 where one is.

        An image and a caption are relevant to each other if any row has the image and that text.

        Args:
            source: The modality of the queries' stream.
            target: That of the candidates' stream.
        """
        queries, images_of_queries = self._items(source)
        candidates, images_of_candidates = self._items(target)
        # Multiplied by distinct texts, not by captions: a text may be shared by very many captions.
        relevant = (images_of_queries @ images_of_candidates.T).tocsr()
        return relevant[queries][:, candidates]

    def _items(self, modality: Modality) -> tuple[npt.NDArray[np.int64], sparse.csr_matrix]:
        """The distinct items that stand-ins show: images, or texts.

        Returns:
            The item of each stand-in, and the images of each item, (items, images).
        """
        number = int(self.images[-1]) + 1
        if modality == "image":
            return np.arange(number), sparse.identity(number, np.int32, format="csr")
        texts = self.texts.copy()
        unknown = np.flatnonzero(texts < 0)
        texts[unknown] = texts.max() + 1 + np.arange(len(unknown))
        return texts, incidence(texts, self.images, (int(texts.max()) + 1, number))


def choose_sample(images: Images, valid: npt.NDArray[np.bool_], size: int, seed: int) -> Sample:
    """Draw whole images at random, up to `size` analysed rows.

    Args:
        images: The images of the cache's rows.
        valid: Which rows are analysed, (rows,).
        size: Rows at most, unless the first image has more.
        seed: With the number of images, all that decides.
    """
    rows = np.flatnonzero(valid)
    of_row = _numbered(images.of_row[rows])
    counts = np.bincount(of_row)
    order = np.random.default_rng([seed, len(counts)]).permutation(len(counts))
    taken = max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))
    chosen = np.zeros(len(counts), dtype=np.bool_)
    chosen[order[:taken]] = True
    kept = chosen[of_row]
    numbered = _numbered(of_row[kept])
    return Sample(rows[kept], numbered, np.full(len(numbered), -1))


def _numbered(ascending: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ascending numbers, numbered from 0 without gaps, (n,)."""
    return np.cumsum(begins(ascending)) - 1
