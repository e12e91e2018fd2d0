"""Do maps of a class's name point at its masks? Scores over the images of a cache.

Every map stands beside baselines on the same images and masks: what a map that knows nothing of
the text reaches.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.detection import Judged, auc
from sparc.analyze.localize.localizer import Localizer, Seen
from sparc.analyze.localize.measures import Mask, Scores, score
from sparc.analyze.localize.targets import Objective, TextFeature, latents_objective
from sparc.analyze.maths.statistics import with_interval
from sparc.common import rle
from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.common.text import shorten
from sparc.extract.datasets.images import CacheImages
from sparc.extract.encoders.tower import LocalizeError

LARGEST_SIDE = 512
"""Maps and masks of larger images are compared at this size."""

ABSENT_TEXTS = 10
"""Texts of absent classes that are judged in each image."""

SCHEMA = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("map", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("pictures", pa.string(), nullable=False),
        pa.field("class_id", pa.int32()),
        pa.field("class", pa.string()),
        pa.field("objects", pa.int64(), nullable=False),
        pa.field("unanswered", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in Scores._fields),
        pa.field("absent", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("auc", "auc_low", "auc_high")),
    ]
)
"""The table `localization`; `REPORT.md` says what its columns mean."""


class ScoredImage(NamedTuple):
    """An image with masks.

    Attributes:
        sample_id: Its id.
        image: What `CacheImages.open` takes.
        masks: By class, the union of its objects.
        classes: All that is known to be in it, with the classes above.
    """

    sample_id: str
    image: str
    masks: Mapping[int, Mask]
    classes: frozenset[int] = frozenset()


class _Result(NamedTuple):
    stream: str
    map: str
    class_id: int
    several: bool
    answered: bool
    scores: Scores


class _JudgedText(NamedTuple):
    class_id: int
    several: bool
    judged: Judged


def score_cache(localizer: Localizer, cache: ActivationCache, config: LocalizeConfig) -> pa.Table:
    """Score the maps of class names against the masks of a cache.

    Args:
        localizer: The model and its encoders.
        cache: A cache with masks.
        config: How many images, which template, which seed.

    Returns:
        A table of schema `SCHEMA`.

    Raises:
        LocalizeError: The cache has no masks.
        DatasetError: The dataset, or one of its images, is not there or not to be opened.
        PictureError: An image cannot be decoded.
    """
    scored = _drawn(cache, config)
    names = dict(
        zip(*(cache.classes().column(c).to_pylist() for c in ("class_id", "name")), strict=True)
    )
    images = CacheImages(cache.info, config.dataset)
    texts: dict[int, TextFeature] = {}
    results: list[_Result] = []
    judged: dict[str, list[_JudgedText]] = defaultdict(list)
    methods: dict[str, str] = {}
    absent = _absent(scored, config.seed)
    with progress(len(scored), "localizing", unit="images") as bar:
        for number, image in enumerate(scored):
            seen = localizer.see(images.open(image.image))
            for class_id in (*image.masks, *absent[number]):
                if class_id not in texts:
                    texts[class_id] = localizer.read(config.template.replace("{}", names[class_id]))
            for stream in localizer.towers:
                methods[stream] = localizer.method(stream, seen.pixels[stream])
                results += _score_image(localizer, stream, seen, image, texts, config)
                for class_id in (*image.masks, *absent[number]):
                    found = localizer.presence(stream, texts[class_id], seen)
                    present = class_id in image.masks
                    text = Judged(number, present, found.share or 0.0)
                    judged[stream].append(_JudgedText(class_id, len(image.masks) > 1, text))
            bar.update(1)
    return _table(results, judged, names, methods, config)


def _score_image(
    localizer: Localizer,
    stream: str,
    seen: Seen,
    image: ScoredImage,
    texts: Mapping[int, TextFeature],
    config: LocalizeConfig,
) -> Iterator[_Result]:
    """Every class of an image in one stream, each map beside its baselines."""
    several = len(image.masks) > 1
    size = _compared_size(*seen.size)
    placement = localizer.placement(stream, seen.size)
    questions: list[tuple[str, int]] = []
    objectives: list[Objective] = []
    for class_id, mask in image.masks.items():
        wanted = _resized(mask, size, image)
        yield _Result(stream, "centre", class_id, several, True, score(_centre(size), wanted))
        asked = {
            "text": _text_objective(localizer, stream, texts[class_id], seen),
            "random_latent": _random_latent(localizer, stream, seen, image, class_id, config),
            "raw_similarity": localizer.raw_objective(stream, texts[class_id]),
        }
        for name, objective in asked.items():
            if objective is not None:
                questions.append((name, class_id))
                objectives.append(objective)
            elif name == "text":  # without an answer it points at nothing
                nothing = np.zeros(wanted.shape, np.float32)
                yield _Result(stream, name, class_id, several, False, score(nothing, wanted))
    if not objectives:
        return
    grids = localizer.maps(stream, seen, objectives)
    for (name, class_id), grid in zip(questions, grids, strict=True):
        values = placement.on_image(grid, size)
        wanted = _resized(image.masks[class_id], size, image)
        yield _Result(stream, name, class_id, several, True, score(values, wanted))


def _text_objective(
    localizer: Localizer, stream: str, text: TextFeature, seen: Seen
) -> Objective | None:
    try:
        return localizer.objective(stream, text, seen)
    except LocalizeError:  # it activates nothing here
        return None


def _random_latent(
    localizer: Localizer,
    stream: str,
    seen: Seen,
    image: ScoredImage,
    class_id: int,
    config: LocalizeConfig,
) -> Objective | None:
    """One of the latents that are active in this very image, whatever it stands for."""
    code = localizer.model.encode({stream: seen.features[stream]}, "independent")[stream]
    active = code.indices[0][code.values[0] > 0]
    if not len(active):
        return None
    # The same draw however many images are scored, and in whatever order.
    key = f"{config.seed} {image.sample_id} {class_id} {stream}".encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
    chosen = int(np.random.default_rng(seed).integers(len(active)))
    one = active.sort().values[chosen : chosen + 1]
    return latents_objective(localizer.model, stream, one, torch.ones(1, device=one.device))


def _centre(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    width, height = size
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    return -(rows[:, None] ** 2 + columns[None] ** 2).astype(np.float32)


def _drawn(cache: ActivationCache, config: LocalizeConfig) -> list[ScoredImage]:
    masks = cache.masks()
    if masks is None or not len(masks):
        raise LocalizeError(
            f"{cache.folder} has no masks to score against: extract the dataset with --masks"
        )
    rows = cache.rows(["sample_id", "image", "label_ids"]).to_pylist()
    labels = {row["sample_id"]: row["label_ids"] or () for row in rows}
    images = {row["sample_id"]: row["image"] for row in rows if row["image"] is not None}
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in masks.to_pylist():
        if row["sample_id"] in images:
            by_image[row["sample_id"]].append(row)
    ids = sorted(by_image)
    if len(ids) > config.max_images:
        chosen = np.random.default_rng(config.seed).choice(
            len(ids), config.max_images, replace=False
        )
        ids = [ids[i] for i in np.sort(chosen)]
    parents = dict(
        zip(
            *(cache.classes().column(c).to_pylist() for c in ("class_id", "parent_id")), strict=True
        )
    )
    scored = []
    for i in ids:
        found = _by_class(by_image[i], cache)
        if found:
            known = {*labels[i], *(row["class_id"] for row in by_image[i])}
            scored.append(ScoredImage(i, images[i], found, _with_ancestors(known, parents)))
    return scored


def _with_ancestors(classes: set[int], parents: Mapping[int, int | None]) -> frozenset[int]:
    found: set[int] = set()
    waiting = list(classes)
    while waiting:
        class_id = waiting.pop()
        if class_id not in found:
            found.add(class_id)
            above = parents.get(class_id)
            waiting += [] if above is None else [above]
    return frozenset(found)


def _absent(images: Sequence[ScoredImage], seed: int) -> list[list[int]]:
    """For each image some of the classes of the others' masks that are not known to be in it."""
    wanted = sorted({class_id for image in images for class_id in image.masks})
    generator = np.random.default_rng(seed)
    drawn = []
    for image in images:
        others = [class_id for class_id in wanted if class_id not in image.classes]
        number = min(ABSENT_TEXTS, len(others))
        drawn.append([int(c) for c in generator.choice(others, number, replace=False)])
    return drawn


def _by_class(rows: Sequence[Mapping[str, Any]], cache: ActivationCache) -> dict[int, Mask]:
    """The union of each class's masks; a mask of nothing or of everything tells nothing."""
    found: dict[int, Mask] = {}
    for row in rows:
        try:
            mask = rle.decode(row["counts"], row["height"], row["width"])
        except ValueError as error:
            raise LocalizeError(
                f"{cache.folder}: a mask of sample {shorten(row['sample_id'], 60)} is damaged: "
                f"{error}"
            ) from error
        class_id = row["class_id"]
        found[class_id] = found[class_id] | mask if class_id in found else mask
    return {c: mask for c, mask in found.items() if mask.any() and not mask.all()}


def _compared_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(mask: Mask, size: tuple[int, int], image: ScoredImage) -> Mask:
    """A mask at the size that is compared, by its pixel at the centre of each place.

    Of a mask so small that it lies between the centres, or so large that all else does, the places
    that it touches, or fills, are taken instead: a mask is never empty or full.
    """
    width, height = size
    if abs(mask.shape[0] * width - mask.shape[1] * height) > max(mask.shape):
        raise LocalizeError(
            f"sample {shorten(image.sample_id, 60)}: its mask of {mask.shape[1]} x "
            f"{mask.shape[0]} pixels has another shape than its image"
        )
    rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(np.int64)
    small: Mask = mask[np.ix_(rows, columns)]
    if not small.any():
        return _touched(mask, size)
    return ~_touched(~mask, size) if small.all() else small


def _touched(mask: Mask, size: tuple[int, int]) -> Mask:
    """The places of a smaller image in which a mask has any pixel, (height, width) bool."""
    width, height = size
    rows, columns = np.nonzero(mask)
    touched = np.zeros((height, width), np.bool_)
    touched[rows * height // mask.shape[0], columns * width // mask.shape[1]] = True
    return touched


def _table(
    results: Sequence[_Result],
    judged: Mapping[str, Sequence[_JudgedText]],
    names: Mapping[int, str],
    methods: Mapping[str, str],
    config: LocalizeConfig,
) -> pa.Table:
    groups: dict[tuple[str, str, str, int | None], list[_Result]] = defaultdict(list)
    for result in results:
        for images in ("all", "several") if result.several else ("all",):
            for class_id in (None, result.class_id):
                groups[result.stream, result.map, images, class_id].append(result)
    rows = [
        {
            "stream": stream,
            "map": name,
            "method": "" if name == "centre" else methods[stream],
            "target": config.target if name == "text" else "",
            "mode": config.mode if name == "text" else "",
            "pictures": images,
            "class_id": class_id,
            "class": None if class_id is None else names[class_id],
            "objects": len(group),
            "unanswered": sum(not result.answered for result in group),
            **dict(
                zip(
                    Scores._fields,
                    np.mean([result.scores for result in group], axis=0).tolist(),
                    strict=True,
                )
            ),
            **(_auc(judged[stream], images, class_id) if name == "text" else {}),
        }
        for (stream, name, images, class_id), group in groups.items()
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _auc(
    texts: Sequence[_JudgedText], images: str, class_id: int | None
) -> dict[str, float | int | None]:
    """The columns `absent` and `auc` of a row."""
    chosen = [
        text.judged
        for text in texts
        if (images == "all" or text.several) and class_id in (None, text.class_id)
    ]
    found = auc(chosen)
    absent = sum(not text.present for text in chosen)
    return {"absent": absent, **with_interval("auc", found.value, found.interval)}
