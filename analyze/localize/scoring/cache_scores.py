"""Scores maps of class names against the masks of a cache.

Every map has baselines on the same images and masks: the scores of maps that do not depend on the
text.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import EncodedImage, Localizer
from sparc.analyze.localize.scoring.detection import ScoredText, auc
from sparc.analyze.localize.scoring.measures import MapScores, score
from sparc.analyze.localize.scoring.scored_images import (
    ScoredImage,
    compared_size,
    draw_absent,
    draw_images,
    resized,
)
from sparc.analyze.localize.targets import Objective, TextFeature, latents_objective
from sparc.analyze.maths.intervals import with_interval
from sparc.common.cache.reader import ActivationCache
from sparc.common.progress import progress
from sparc.extract.datasets.images import CacheImages
from sparc.extract.encoders.tower import LocalizeError

SCHEMA = pa.schema(
    [
        pa.field("stream", pa.string(), nullable=False),
        pa.field("map", pa.string(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("images", pa.string(), nullable=False),
        pa.field("class_id", pa.int32()),
        pa.field("class", pa.string()),
        pa.field("objects", pa.int64(), nullable=False),
        pa.field("unanswered", pa.int64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in MapScores._fields),
        pa.field("absent", pa.int64()),
        *(pa.field(name, pa.float64()) for name in ("auc", "auc_low", "auc_high")),
    ]
)
"""The table `localization`; `REPORT.md` says what its columns mean."""


class _Result(NamedTuple):
    """The scores of one map of a class in an image."""

    stream: str
    map: str
    class_id: int
    several: bool  # whether the image has masks of several classes
    answered: bool  # whether there was an objective to explain
    scores: MapScores


class _Text(NamedTuple):
    """The presence of a class in an image, according to its text."""

    class_id: int
    several: bool
    scored: ScoredText


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
        DatasetError: The dataset, or one of its images, is missing or cannot be opened.
        ImageError: An image cannot be decoded.
    """
    scored = draw_images(cache, config.max_images, config.seed)
    names = dict(
        zip(*(cache.classes().column(c).to_pylist() for c in ("class_id", "name")), strict=True)
    )
    images = CacheImages.of(cache, config.dataset)
    texts: dict[int, TextFeature] = {}
    results: list[_Result] = []
    scored_texts: dict[str, list[_Text]] = defaultdict(list)
    methods: dict[str, str] = {}
    absent = draw_absent(scored, config.seed)
    with progress(len(scored), "localizing", unit="images") as bar:
        for number, image in enumerate(scored):
            encoded = localizer.encode(images.open(image.image))
            for class_id in (*image.masks, *absent[number]):
                if class_id not in texts:
                    texts[class_id] = localizer.read(config.template.replace("{}", names[class_id]))
            for stream in localizer.towers:
                methods[stream] = localizer.method(stream, encoded.pixels[stream])
                results += _score_image(localizer, stream, encoded, image, texts, config)
                for class_id in (*image.masks, *absent[number]):
                    share = localizer.presence(stream, texts[class_id], encoded).share
                    present = class_id in image.masks
                    text = ScoredText(number, present, share or 0.0)
                    scored_texts[stream].append(_Text(class_id, len(image.masks) > 1, text))
            bar.update(1)
    return _table(results, scored_texts, names, methods, config)


def _score_image(
    localizer: Localizer,
    stream: str,
    encoded: EncodedImage,
    image: ScoredImage,
    texts: Mapping[int, TextFeature],
    config: LocalizeConfig,
) -> Iterator[_Result]:
    """Score the maps of every class in an image, and their baselines, in one stream."""
    several = len(image.masks) > 1
    size = compared_size(*encoded.size)
    placement = localizer.placement(stream, encoded.size)
    questions: list[tuple[str, int]] = []
    objectives: list[Objective] = []
    for class_id, mask in image.masks.items():
        wanted = resized(mask, size, image)
        yield _Result(stream, "centre", class_id, several, True, score(_centre(size), wanted))
        asked = {
            "text": _text_objective(localizer, stream, texts[class_id], encoded),
            "random_latent": _random_latent(localizer, stream, encoded, image, class_id, config),
            "raw_similarity": localizer.raw_objective(stream, texts[class_id]),
        }
        for name, objective in asked.items():
            if objective is not None:
                questions.append((name, class_id))
                objectives.append(objective)
            elif name == "text":
                flat = np.zeros(wanted.shape, np.float32)
                yield _Result(stream, name, class_id, several, False, score(flat, wanted))
    if not objectives:
        return
    grids = localizer.maps(stream, encoded, objectives)
    for (name, class_id), grid in zip(questions, grids, strict=True):
        values = placement.on_image(grid, size)
        wanted = resized(image.masks[class_id], size, image)
        yield _Result(stream, name, class_id, several, True, score(values, wanted))


def _text_objective(
    localizer: Localizer, stream: str, text: TextFeature, encoded: EncodedImage
) -> Objective | None:
    try:
        return localizer.objective(stream, text, encoded)
    except LocalizeError:  # the text activates nothing here
        return None


def _random_latent(
    localizer: Localizer,
    stream: str,
    encoded: EncodedImage,
    image: ScoredImage,
    class_id: int,
    config: LocalizeConfig,
) -> Objective | None:
    """The objective of a latent drawn from those active in the image."""
    code = localizer.model.encode({stream: encoded.features[stream]}, "independent")[stream]
    active = code.indices[0][code.values[0] > 0]
    if not len(active):
        return None
    # The draw does not depend on how many images are scored, nor on their order.
    key = f"{config.seed} {image.sample_id} {class_id} {stream}".encode()
    seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
    chosen = int(np.random.default_rng(seed).integers(len(active)))
    one = active.sort().values[chosen : chosen + 1]
    return latents_objective(localizer.model, stream, one, torch.ones(1, device=one.device))


def _centre(size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The baseline that points at the centre of an image, (height, width)."""
    width, height = size
    rows = (np.arange(height) + 0.5) / height - 0.5
    columns = (np.arange(width) + 0.5) / width - 0.5
    return -(rows[:, None] ** 2 + columns[None] ** 2).astype(np.float32)


def _table(
    results: Sequence[_Result],
    texts: Mapping[str, Sequence[_Text]],
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
            "images": images,
            "class_id": class_id,
            "class": None if class_id is None else names[class_id],
            "objects": len(group),
            "unanswered": sum(not result.answered for result in group),
            **dict(
                zip(
                    MapScores._fields,
                    np.mean([result.scores for result in group], axis=0).tolist(),
                    strict=True,
                )
            ),
            **(_auc(texts[stream], images, class_id) if name == "text" else {}),
        }
        for (stream, name, images, class_id), group in groups.items()
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _auc(
    texts: Sequence[_Text], images: str, class_id: int | None
) -> dict[str, float | int | None]:
    """The columns `absent` and `auc` of a row."""
    chosen = [
        text.scored
        for text in texts
        if (images == "all" or text.several) and class_id in (None, text.class_id)
    ]
    value, interval = auc(chosen)
    absent = sum(not text.present for text in chosen)
    return {"absent": absent, **with_interval("auc", value, interval)}
