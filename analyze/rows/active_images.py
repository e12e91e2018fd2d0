"""On which images latents are active: codes of whole images, wherever parts are cut.

This module must not know what is counted on the images.
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sparc.analyze.codes.code_rows import CodeRows, concatenate
from sparc.analyze.codes.parts import Parts
from sparc.analyze.rows.images import Images

Integers = npt.NDArray[np.int64]


def analysed_rows(parts: Parts, images: Images) -> Integers:
    """How many analysed rows each image has, (images,)."""
    analysed = np.zeros(len(images.of_row), np.bool_)
    for part in range(len(parts)):
        analysed[parts.rows(part)] = True
    return images.count_rows(analysed)


def whole_images(parts: Parts, images: Images, part: int) -> CodeRows:
    """The codes of all images that begin in a part, wherever they end."""
    of_row = images.of_row
    pieces = [parts.codes(part)]
    last = of_row[pieces[0].rows[-1]]
    following = part + 1
    while following < len(parts) and of_row[parts.rows(following)[0]] == last:
        codes = parts.codes(following)
        pieces.append(codes.take(np.flatnonzero(of_row[codes.rows] == last)))
        following += 1
    codes = concatenate(pieces)
    if part > 0:
        begun = of_row[parts.rows(part - 1)[-1]]
        codes = codes.take(np.flatnonzero(of_row[codes.rows] != begun))
    return codes


def active_images(
    codes: CodeRows, stream: str, latents: int, images: Images
) -> tuple[sparse.csr_matrix, Integers]:
    """On which images the latents of a stream are active.

    Returns:
        (n, latents) int32, 1 where active, canonical; and which images these are, (n,).
    """
    of_row = images.of_row[codes.rows]
    begins = np.flatnonzero(np.diff(of_row, prepend=-1))
    matrix = codes.matrix(stream, latents)
    # The rows of an image follow one another, so their entries can be read as one line.
    ends = np.append(matrix.indptr[begins], matrix.nnz)
    ones = np.ones(matrix.nnz, np.int32)
    active = sparse.csr_matrix((ones, matrix.indices, ends), shape=(len(begins), latents))
    active.has_canonical_format = len(begins) == len(of_row)
    active.sum_duplicates()
    active.data[:] = 1
    return active, of_row[begins]
