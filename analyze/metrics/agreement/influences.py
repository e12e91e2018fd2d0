"""How much each image moves sums of agreement, from how much each cell does.

A cell is a latent with a class: the number of its rows that carry the class.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.metrics.agreement.rows import ActiveRows, SampledImages
from sparc.analyze.rows.labels import Labels

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Side:
    """Some latents of a stream that take part in comparisons, and their slopes.

    Args:
        rows: The stream's rows.
        latents: Which latents, (n,).
    """

    def __init__(self, rows: ActiveRows, latents: Integers) -> None:
        self._rows, self._latents = rows, latents
        self.counts = rows.counts[latents]
        self.counts.has_canonical_format = True
        self.totals = np.asarray(self.counts.sum(axis=1)).ravel()
        self._line = np.repeat(np.arange(len(latents)), np.diff(self.counts.indptr))
        self.pairs: list[int] = []
        self._slopes = np.zeros((0, 0, 0), np.float32)
        self._weight = np.zeros(0, np.float32)

    def start_slopes(self, depths: int, weight: Floats) -> None:
        """Begin with (depths, pairs + 1, cells) slopes of 0; the last are those of the mean.

        Args:
            depths: How many depths.
            weight: The weight of each pair in the mean over pairs, (n,).
        """
        self._slopes = np.zeros((depths, len(self.pairs) + 1, self.counts.nnz), np.float32)
        self._weight = weight.astype(np.float32).take(self._line)

    def set_slopes(self, depth: int, pair: int, slopes: npt.NDArray[np.float32]) -> None:
        """Set how much each cell moves J in a pair, (cells,)."""
        self._slopes[depth, self.pairs.index(pair)] = slopes
        self._slopes[depth, -1] += slopes * self._weight

    def influences(self, labels: Labels, sampled: SampledImages) -> npt.NDArray[np.float32]:
        """How much each sampled image moves the sums, (images, depths, pairs + 1)."""
        rows, latents = self._rows, len(self._latents)
        begins, ends = rows.ends[self._latents], rows.ends[self._latents + 1]
        line = np.repeat(np.arange(latents), ends - begins)
        row = rows.rows[_ranges(begins, ends)]
        image = sampled.place[sampled.of_row[row]]
        if (image < 0).any():  # The strongest rows are those of all images.
            known = image >= 0
            line, row, image = line[known], row[known], image[known]
        sums = self._slopes.shape[0] * self._slopes.shape[1]
        slopes = np.ascontiguousarray(self._slopes.reshape(sums, self.counts.nnz).T)
        fixed = rows.fixed[self._latents]
        if fixed.any():
            slopes = slopes * _of_few_images(rows, self._latents)[self._line, None]
        moved = self._images_of_cells(line, row, image, labels, sampled.number) @ slopes
        if fixed.any():
            # Another row like the rest of its list takes a row's place.
            cells = sparse.csr_matrix(
                (self.counts.data.astype(np.float32), np.arange(len(slopes)), self.counts.indptr)
            )
            per_row = (fixed / np.maximum(np.diff(rows.ends)[self._latents], 1)).astype(np.float32)
            ends = np.append(0, np.cumsum(np.bincount(line, minlength=latents)))
            moved -= _columns(image, ends, sampled.number) @ ((cells @ slopes) * per_row[:, None])
        result: npt.NDArray[np.float32] = moved.reshape(sampled.number, *self._slopes.shape[:2])
        return result

    def _images_of_cells(
        self,
        line: Integers,
        row: Integers,
        image: npt.NDArray[np.int32],
        labels: Labels,
        images: int,
    ) -> sparse.csc_matrix:
        """What each image adds to each cell, (images, cells); repeated entries add up.

        Args:
            line: The latent of each row, by position in this side, ascending.
            row: The row of the cache.
            image: The place of its image in the sample.
            labels: The labels.
            images: How many images are sampled.
        """
        classes = labels.matrix.shape[1]
        begins, ends = (labels.matrix.indptr[at].astype(np.int64) for at in (row, row + 1))
        carried = ends - begins
        cell = np.repeat(line * classes, carried) + labels.matrix.indices[_ranges(begins, ends)]
        # A transposition sorts by cell in linear time.
        every = np.arange(1 + len(cell))
        by_cell = sparse.csr_matrix(
            (np.ones(len(cell), np.bool_), cell, every), (len(cell), len(self._latents) * classes)
        ).tocsc()
        stored = self._line * classes + self.counts.indices
        ends = np.append(by_cell.indptr[stored], len(cell))
        return _columns(np.repeat(image, carried)[by_cell.indices], ends, images)


class Sides:
    """The latents that take part in comparisons, of each stream.

    Args:
        streams: The rows of each stream.
    """

    def __init__(self, streams: Sequence[ActiveRows]) -> None:
        self._streams = streams
        self._sides: dict[tuple[int, bytes], Side] = {}

    def add(self, stream: int, latents: Integers, *, pair: int) -> Side:
        """The side of some latents in a pair of streams.

        A stream takes part in several pairs, mostly with the same latents, and then has one side.
        """
        key = stream, latents.tobytes()
        if key not in self._sides:
            self._sides[key] = Side(self._streams[stream], latents)
        self._sides[key].pairs.append(pair)
        return self._sides[key]

    def start_slopes(self, depths: int, weight: Floats) -> None:
        """Make room for slopes at some depths; `weight` is that of a pair in the mean, (n,)."""
        for side in self._sides.values():
            side.start_slopes(depths, weight)

    def add_influences(self, to: Floats, labels: Labels, sampled: SampledImages) -> None:
        """Add how much each sampled image moves the sums, to (depths, 1 + pairs, images)."""
        for side in self._sides.values():
            moved = side.influences(labels, sampled)
            to[:, [*side.pairs, 0]] += np.moveaxis(moved, 0, 2)


def _of_few_images(rows: ActiveRows, latents: Integers) -> npt.NDArray[np.float32]:
    """What rows of a fixed number differ by is measured from their own mean: Bessel's correction.

    Returns:
        Its square root for each latent, (n,); 1 where the number of rows is not fixed.
    """
    images = np.maximum(np.diff(rows.by_image.indptr)[latents], 2)
    factor = np.where(rows.fixed[latents], np.sqrt(images / (images - 1)), 1)
    return factor.astype(np.float32)


def _ranges(begins: Integers, ends: Integers) -> Integers:
    """The numbers from each begin to its end, one range after the other."""
    lengths = ends - begins
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(begins - offsets, lengths) + np.arange(int(lengths.sum()))


def _columns(lines: npt.NDArray[Any], ends: Integers, number: int) -> sparse.csc_matrix:
    """A float32 matrix of ones at some lines of each column, (number, columns)."""
    return sparse.csc_matrix(
        (np.ones(len(lines), np.float32), lines, ends), shape=(number, len(ends) - 1)
    )
