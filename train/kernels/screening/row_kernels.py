"""The parts of screening that are compiled by Numba.

Numbers are compared as their bits, which are in order once those of negative numbers are turned
round: a search in halves then ends after 32 steps, whatever the numbers are.
"""

# mypy: disable-error-code="no-untyped-def"

import math

import numpy as np

from sparc.train.kernels.compiled import compiled
from sparc.train.kernels.screening.bounds import UNIT

_UNIT = np.float32(UNIT)
_GROUP = 8
"""Latents whose highest ceiling is compared first: one in eighths of all."""
_MINUS_ZERO = np.int32(-(2**31))
_INFINITY = np.int32(0x7F800000)
_ABOVE_ALL = np.int64(2**31)


@compiled
def lower(weight, rows, norms, lost):
    """Rounds encoder rows to bfloat16, in one pass over them.

    Args:
        weight: (latents, dim).
        rows: Becomes the bits of the rounded rows, (latents, dim) int16.
        norms: Becomes the norms of the rows, (latents,).
        lost: Becomes those of what was lost, (latents,).
    """
    dim = weight.shape[1]
    for latent in range(len(weight)):
        row, rounded_row = weight[latent], rows[latent]
        square = error = np.float32(0)
        for i in range(dim):
            number = row[i]
            bits = np.float32(number).view(np.int32)
            # To nearest, and to an even last bit from the middle.
            bits = np.int32(bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1)))
            high = np.int32(bits >> np.int32(16))
            rounded_row[i] = high
            gap = number - np.int32(high << np.int32(16)).view(np.float32)
            square += number * number
            error += gap * gap
        norms[latent] = math.sqrt(square)
        lost[latent] = math.sqrt(error)


@compiled
def pair_products(vectors, rows, weight, latents, products):
    """Products of vectors[rows[j]] with weight[latents[j]], for all j.

    In the order of the latents, so that a weight row is read once. Four at a time, the last ones
    repeated: so each of them is the result of the same instructions, whatever its neighbours are.
    """
    dim, last = vectors.shape[1], len(rows) - 1
    order = _order(latents, len(weight))
    for j in range(0, last + 1, 4):
        at_a, at_b = order[j], order[min(j + 1, last)]
        at_c, at_d = order[min(j + 2, last)], order[min(j + 3, last)]
        row_a, row_b = weight[latents[at_a]], weight[latents[at_b]]
        row_c, row_d = weight[latents[at_c]], weight[latents[at_d]]
        vector_a, vector_b = vectors[rows[at_a]], vectors[rows[at_b]]
        vector_c, vector_d = vectors[rows[at_c]], vectors[rows[at_d]]
        a = b = c = d = np.float32(0)
        for i in range(dim):
            a += vector_a[i] * row_a[i]
            b += vector_b[i] * row_b[i]
            c += vector_c[i] * row_c[i]
            d += vector_d[i] * row_d[i]
        products[at_a], products[at_b], products[at_c], products[at_d] = a, b, c, d


@compiled
def _order(latents, count):
    """Positions sorted by latent."""
    begin = np.zeros(count + 1, np.int64)
    for latent in latents:
        begin[latent + 1] += 1
    for latent in range(count):
        begin[latent + 1] += begin[latent]
    order = np.empty(len(latents), np.int64)
    for j in range(len(latents)):
        order[begin[latents[j]]] = j
        begin[latents[j]] += 1
    return order


@compiled
def find_candidates(lows, of_rows, of_latents, k, latents, counts):
    """The latents of each row that may be among the k highest.

    Args:
        lows: By stream, bits of the low products, (rows, all latents) int16.
        of_rows: By stream, as of `LowLogits`, (rows, 3).
        of_latents: By stream, as of `LowLogits`, (4, all latents).
        k: Latents to find.
        latents: Begins with the candidates then, (rows, most) int64.
        counts: Becomes their number, (rows,) int64; -1 for more than there is room for.
    """
    size, most = lows[0].shape[1], latents.shape[1]
    groups = -(-size // _GROUP)
    if groups < 2 * k:
        groups = size
    ceilings = np.empty(-(-size // groups) * groups, np.float32)
    keys, maxima = ceilings.view(np.int32), np.empty(groups, np.int32)
    floors = np.empty(most, np.float32)
    floor_keys = floors.view(np.int32)
    for row in range(len(counts)):
        counts[row] = -1
        ceilings[:size] = 0
        ceilings[size:] = -np.inf
        for stream in range(len(lows)):
            _add_ceilings(
                ceilings[:size], lows[stream][row], of_rows[stream][row], of_latents[stream]
            )
        if not _turn(keys):
            continue
        _highest(maxima, keys)
        first = _nth_highest(maxima, k)
        found = _at_least(latents[row], keys, maxima, first, _ABOVE_ALL)
        if found > most:
            continue
        floors[:found] = 0
        for stream in range(len(lows)):
            _add_floors(
                floors[:found],
                latents[row],
                lows[stream][row],
                of_rows[stream][row],
                of_latents[stream],
            )
        if not _turn(floor_keys[:found]):
            continue
        floor = _nth_highest(floor_keys[:found], k)
        more = _at_least(latents[row, found:], keys, maxima, floor, first)
        if found + more <= most:
            counts[row] = found + more


@compiled
def _add_ceilings(ceilings, low, of_row, of_latents):
    by_norm, by_lost, has = of_row[0], of_row[1], of_row[2]
    norms, lost, bias = of_latents[0], of_latents[1], of_latents[2]
    for latent in range(len(low)):
        product = np.int32(np.int32(low[latent]) << np.int32(16)).view(np.float32)
        slack = by_norm * norms[latent] + by_lost * lost[latent] + has * bias[latent]
        ceilings[latent] += product + _UNIT * abs(product) + slack


@compiled
def _add_floors(floors, latents, low, of_row, of_latents):
    by_norm, by_lost, has = of_row[0], of_row[1], of_row[2]
    norms, lost, bias = of_latents[0], of_latents[1], of_latents[3]
    for j in range(len(floors)):
        latent = latents[j]
        product = np.int32(np.int32(low[latent]) << np.int32(16)).view(np.float32)
        slack = by_norm * norms[latent] + by_lost * lost[latent] - has * bias[latent]
        floors[j] += product - _UNIT * abs(product) - slack


@compiled
def _turn(bits):
    """Turns bits of numbers into whole numbers of the same order; False if any is NaN."""
    unknown = False
    for i in range(len(bits)):
        number = bits[i]
        size = number & np.int32(0x7FFFFFFF)
        unknown |= size > _INFINITY
        turned = number ^ ((number >> np.int32(31)) & np.int32(0x7FFFFFFF))
        bits[i] = np.int32(0) if number == _MINUS_ZERO else turned
    return not unknown


@compiled
def _highest(maxima, keys):
    """The maxima of groups: every group takes latents at a stride."""
    groups = len(maxima)
    maxima[:] = keys[:groups]
    for begin in range(groups, len(keys), groups):
        for group in range(groups):
            maxima[group] = max(maxima[group], keys[begin + group])


@compiled
def _nth_highest(keys, n):
    """A number that exactly n of the keys reach, or the n-th highest where its equals are more."""
    low, high = np.int64(keys.min()), np.int64(keys.max())
    while low < high:
        middle = low + (high - low + 1) // 2
        limit, count = np.int32(middle), np.int32(0)
        for i in range(len(keys)):
            count += np.int32(keys[i] >= limit)
        if count == n:
            return middle
        if count > n:
            low = middle
        else:
            high = middle - 1
    return low


@compiled
def _at_least(latents, keys, maxima, least, below):
    """Puts the latents with keys from `least` to just below `below` into `latents`.

    Returns:
        How many there are, of which no more are put there than there is room for.
    """
    groups, found = len(maxima), 0
    for group in range(groups):
        if maxima[group] >= least:
            for latent in range(group, len(keys), groups):
                if least <= keys[latent] < below:
                    if found < len(latents):
                        latents[found] = latent
                    found += 1
    return found


@compiled
def take_highest(latents, scores, places):
    """The places of the k candidates with the highest scores, of equal ones the first latents.

    Args:
        latents: The candidates of a row, (candidates,).
        scores: Theirs, likewise: changed.
        places: Becomes the places, (k,).

    Returns:
        False if any score is NaN.
    """
    k, keys = len(places), scores.view(np.int32)
    if not _turn(keys):
        return False
    least = _nth_highest(keys, k)
    equals = np.empty(len(keys), np.int64)
    higher = ties = 0
    for j in range(len(keys)):
        if keys[j] > least:
            higher += 1
        elif keys[j] == least:
            equals[ties] = latents[j]
            ties += 1
    last = latents.max()
    if higher + ties > k:
        last = _nth_lowest(equals[:ties], k - higher)
    place = 0
    for j in range(len(keys)):
        if keys[j] > least or (keys[j] == least and latents[j] <= last):
            places[place] = j
            place += 1
    return True


@compiled
def _nth_lowest(latents, n):
    """The n-th lowest of latents, all different."""
    low, high = latents.min(), latents.max()
    while low < high:
        middle, count = (low + high) // 2, 0
        for latent in latents:
            count += latent <= middle
        if count >= n:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def select_rows(offsets, latents, products, biases, of_rows, indices, logits, done):
    """The k latents of each row with the highest scores.

    Args:
        offsets: Where each row's candidates begin, (rows + 1,).
        latents: The candidates, row by row, (pairs,).
        products: By stream, their products, (streams, pairs): changed to logits.
        biases: By stream, (all latents,).
        of_rows: By stream, as of `LowLogits`.
        indices: Becomes the latents, (rows, k).
        logits: Becomes their logits, (rows, streams, k).
        done: Becomes False for rows whose scores are not all numbers, (rows,).
    """
    scores = np.zeros(len(latents), np.float32)
    places = np.empty(indices.shape[1], np.int64)
    for row in range(len(indices)):
        begin, end = offsets[row], offsets[row + 1]
        done[row] = False
        if begin == end:
            continue
        for stream in range(len(biases)):
            bias, has, of_stream = biases[stream], of_rows[stream][row, 2], products[stream]
            for pair in range(begin, end):
                of_stream[pair] = (of_stream[pair] + bias[latents[pair]]) * has
                scores[pair] += of_stream[pair]
        done[row] = take_highest(latents[begin:end], scores[begin:end], places)
        if done[row]:
            for place in range(len(places)):
                pair = begin + places[place]
                indices[row, place] = latents[pair]
                for stream in range(len(biases)):
                    logits[row, stream, place] = products[stream, pair]
