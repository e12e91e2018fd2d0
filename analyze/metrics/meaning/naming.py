"""The words that name a latent: more frequent on its strongest images than elsewhere.

The score is the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn,
"Fightin' Words", Political Analysis 16, 2008, equations 15-22). An image with more captions has
more words, and in a text stream more chances to be among a latent's strongest: the test is
stratified by the number of analysed rows of an image. See `REPORT.md` for the table.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.maths.exact_tests import benjamini_hochberg
from sparc.analyze.maths.stratified import upper_tail
from sparc.analyze.rows.images import Images, incidence, ranks
from sparc.analyze.rows.top_rows import TopRows
from sparc.analyze.rows.words import CaptionWords, Words

SCHEMA = pa.schema(
    [
        pa.field("mode", pa.string(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("latent", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("images_both", pa.int64(), nullable=False),
        pa.field("images_latent", pa.int64(), nullable=False),
        pa.field("images_word", pa.int64(), nullable=False),
        pa.field("log_odds", pa.float64(), nullable=False),
        pa.field("z", pa.float64(), nullable=False),
        pa.field("q", pa.float64(), nullable=False),
    ]
)

PRIOR_WORDS = 500.0
"""Weight of the prior: the number of words, in their overall proportions, added to both sides."""

LEAST_IMAGES = 3
"""Images of a latent that have the word, at least."""

LEAST_Z = 3.0
LARGEST_Q = 0.01

_LATENTS = 512  # Latents in a block.

Integers = npt.NDArray[np.int64]


def table(
    streams: Sequence[str],
    top: Sequence[TopRows],
    latents: int,
    words: CaptionWords,
    images: Images,
    rows: Integers,
    code_set: CodeSet,
    *,
    names: int,
) -> pa.Table:
    """The names of every latent in every stream, of schema `SCHEMA`.

    Args:
        streams: The streams.
        top: By stream, the strongest rows of each latent.
        latents: L.
        words: The words of the captions.
        images: The images of the rows.
        rows: How many analysed rows each image has, (images,).
        code_set: Which codes these are.
        names: Words per latent at most.
    """
    pieces = [SCHEMA.empty_table()]
    if len(words.vocabulary) < 2:  # there is nothing to compare a word with
        return pieces[0]
    stratum = np.zeros(len(images), np.int64)
    stratum[images.analysed] = ranks(rows[images.analysed])
    of_lists = [images.of_row[lists.rows] for lists in top]
    listed = np.unique(np.concatenate(of_lists))
    words_of_listed = words.of(listed, stratum)
    strata = _Strata(stratum[listed], np.bincount(stratum[images.analysed]))
    for stream, lists, of_list in zip(streams, top, of_lists, strict=True):
        places = np.searchsorted(listed, of_list)
        strongest = incidence(lists.latents, places, (latents, len(listed)))
        columns = _names(strongest, words_of_listed, words.vocabulary, strata, names)
        which = {"mode": code_set.mode, "stream": stream}
        same = {name: [value] * len(columns["latent"]) for name, value in which.items()}
        pieces.append(pa.table({**same, **columns}, schema=SCHEMA))
    return pa.concat_tables(pieces)


class _Strata(NamedTuple):
    """Strata of images: those of one have the same number of analysed rows.

    Attributes:
        of_listed: The stratum of each image of the lists, (n,).
        images: How many analysed images each stratum has, (strata,).
    """

    of_listed: npt.NDArray[np.integer]
    images: Integers


def log_odds(
    inside: Any, outside: Any, all_inside: Any, all_outside: Any, prior: Any, all_prior: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The log-odds ratio of a word inside against outside, and its z-score.

    Args:
        inside: Uses of the word inside. Arguments broadcast against each other.
        outside: Uses of the word outside.
        all_inside: Uses of all words inside.
        all_outside: Uses of all words outside.
        prior: The word's pseudo-counts.
        all_prior: Those of all words.
    """
    a, b = inside + prior, outside + prior
    difference = np.log(a / (all_inside + all_prior - a)) - np.log(
        b / (all_outside + all_prior - b)
    )
    return difference, difference / np.sqrt(1 / a + 1 / b)


class _Candidates(NamedTuple):
    """Words that may name latents; arrays of equal length.

    Attributes:
        latent: The latent, ascending.
        word: The word's column in the matrix of words.
        both: The latent's images that have the word.
        log_odds: Of the word on these images against others.
        z: Its z-score.
        p: The p-value of `both`.
    """

    latent: Integers
    word: Integers
    both: Integers
    log_odds: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]


def _names(
    strongest: sparse.csr_matrix,
    words: Words,
    vocabulary: Sequence[str],
    strata: _Strata,
    names: int,
) -> dict[str, Any]:
    """The columns of `SCHEMA` from `latent` on."""
    used = words.images.sum(axis=1)
    listed = np.diff(strongest.indptr).astype(np.int64)
    # In blocks: all latents together have tens of millions of words.
    starts = range(0, len(listed), _LATENTS)
    blocks = [_candidates(strongest[s : s + _LATENTS], s, words, strata) for s in starts]
    latent, word, both, score, z, p = (np.concatenate(x) for x in zip(*blocks, strict=True))
    # Every word is a candidate for every latent that has images.
    tests = len(used) * int(np.count_nonzero(listed))
    q = benjamini_hochberg(p, tests)
    kept = q <= LARGEST_Q
    latent, word, both, score, z, q = (x[kept] for x in (latent, word, both, score, z, q))
    order = np.lexsort((word, -z, latent))
    rank = np.arange(len(order)) - np.searchsorted(latent[order], latent[order], side="left")
    order, rank = order[rank < names], rank[rank < names]
    spelt = np.array(vocabulary, dtype=object)
    return {
        "latent": latent[order].astype(np.int32),
        "rank": (rank + 1).astype(np.int32),
        "word": pa.array(spelt[word[order]], pa.string()),
        "images_both": both[order],
        "images_latent": listed[latent[order]],
        "images_word": used[word[order]],
        "log_odds": score[order],
        "z": z[order],
        "q": q[order],
    }


def _candidates(
    strongest: sparse.csr_matrix, first: int, words: Words, strata: _Strata
) -> _Candidates:
    """The words that are more frequent on the images of some latents than on others.

    Args:
        strongest: The images of each latent, among those that are listed, (latents, n).
        first: The first of these latents.
        words: The words of the listed images.
        strata: Their strata.
    """
    counts = (strongest @ words.matrix).tocoo()
    line, word, both = counts.row.astype(np.int64), counts.col, counts.data.astype(np.int64)
    uses = np.bincount(line, weights=both, minlength=strongest.shape[0])
    used = words.images.sum(axis=1)
    score, z = log_odds(
        both,
        used[word] - both,
        uses[line],
        used.sum() - uses[line],
        PRIOR_WORDS * used[word] / used.sum(),
        PRIOR_WORDS,
    )
    kept = (both >= LEAST_IMAGES) & (z >= LEAST_Z)
    line, word, both, score, z = (x[kept] for x in (line, word, both, score, z))
    latents, number = strongest.shape[0], len(strata.images)
    owner = np.repeat(np.arange(latents), np.diff(strongest.indptr))
    places = owner * number + strata.of_listed[strongest.indices]
    of_latent = np.bincount(places, minlength=latents * number).reshape(latents, number)
    chance = upper_tail(both, strata.images, words.images[word], of_latent[line])
    return _Candidates(first + line, word, both, score, z, chance)
