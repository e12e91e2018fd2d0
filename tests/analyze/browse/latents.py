"""The details of invented latents, and their pictures."""

import base64
import dataclasses
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sparc.analyze.browse.contents.detail import (
    ClassShare,
    Cofiring,
    Detail,
    Example,
    HeatMap,
    Histogram,
    InStream,
    Name,
    Nearest,
    Neighbour,
    Pair,
    Purity,
    Quantile,
    ShownRow,
    Sprite,
)

from .plan import (
    COLOURS,
    FORMS,
    TILE,
    TWO_CONCEPTS,
    Plan,
    concept,
    is_dead,
    kind,
    odd_stream,
    streams_of,
)

BINS = 12


def detail(plan: Plan, latent: int) -> Detail:
    which = kind(plan, latent)
    odd = odd_stream(plan, latent)
    here = streams_of(plan, latent)
    random_ = random.Random(latent)
    rows = tuple(shown_row(plan, latent, place, random_) for place in range(18))
    independent = {s: in_stream(plan, latent, s, s in here, random_) for s in plan.streams}
    joint = {s: without_examples(in_stream(plan, latent, s, True, random_)) for s in plan.streams}
    pairs = [
        Pair(
            first=a,
            second=b,
            images_both=12,
            overlap=0.6 if a in here and b in here else 0.01,
            overlap_mispaired=0.02,
            agreement=0.7 if plan.labels else None,
            agreement_mispaired=0.05 if plan.labels else None,
            q=2e-12,
            shared=a in here and b in here,
        )
        for a, b in pairwise(plan.streams)
    ]
    partner = latent + 1 if not is_dead(latent + 1) else 0
    name = concept(plan, partner)
    return Detail(
        latent=latent,
        shared=which == "shared",
        only=(odd,) if which == "only" or latent == TWO_CONCEPTS else (),
        lacking=(odd,) if which == "lacking" else (),
        thin="active on fewer than 5 images" if latent % 17 == 4 else None,
        modes={"independent": independent, **({"joint": joint} if len(plan.streams) > 1 else {})},
        rows=rows,
        sprite=Sprite(columns=6, tiles=18) if plan.pictures else None,
        pairs=tuple(pairs),
        nearest=tuple(
            Nearest(
                stream=a, other=b, latent=partner, overlap=0.44, limit=0.1, lacking=False, name=name
            )
            for a, b in pairwise(plan.streams)
        ),
        cofiring=tuple(
            Cofiring(stream=s, latent=partner, images_both=7, lift=22.0, phi=0.5, q=1e-5, name=name)
            for s in plan.streams
        ),
        neighbours=tuple(
            Neighbour(stream=s, latent=partner, cosine=0.41, name=name) for s in plan.streams
        ),
        maps={plan.streams[0]: tuple(heat_map(place) for place in range(9))} if plan.more else None,
    )


def shown_row(plan: Plan, latent: int, place: int, random_: random.Random) -> ShownRow:
    what = concept(plan, latent) if place < 12 else concept(plan, latent + place)
    article = random_.choice(["A", "One", "You can see a"])
    return ShownRow(
        row=latent * 20 + place,
        sample=f"{latent:05d}-{place}",
        image=f"images/{latent}/{place}.png" if plan.pictures else None,
        caption=f"{article} {what} on white." if plan.captions else None,
        classes=(what,) if plan.labels else (),
        tile=place if plan.pictures else -1,
    )


def in_stream(
    plan: Plan, latent: int, stream: str, active: bool, random_: random.Random
) -> InStream:
    name = concept(plan, latent)
    first = plan.streams.index(stream) * 2
    top = tuple(Example((first + i) % 12, round(2.4 - 0.2 * i, 3)) for i in range(9))
    counts = tuple(int(200 / (1 + i) ** 1.5) + random_.randrange(4) for i in range(BINS))
    return InStream(
        rows=sum(counts) if active else 0,
        images=sum(counts) // 2 if active else 0,
        frequency=sum(counts) / 1200 if active else 0,
        mean=0.62 if active else None,
        largest=2.4 if active else None,
        names=tuple(
            Name(word=word, images=9, of=12, lift=14.2, q=1e-6, guess=latent % 7 == 0)
            for word in name.split(" ", 1)
        )
        if active and plan.captions
        else (),
        classes=tuple(
            ClassShare(name=concept(plan, latent + i), rows=40, share=0.6 / (i + 1), base=0.05)
            for i in range(4)
        )
        if active and plan.labels
        else (),
        monosemanticity=0.21 if active else None,
        purity=Purity(name=name, share=0.6, base=0.05, lift=12.0)
        if active and plan.labels
        else None,
        histogram=Histogram(
            edges=tuple(2.4 * i / BINS for i in range(BINS + 1)),
            counts=counts,
            examples=tuple((Example(i, 0.2 * i),) for i in range(BINS)),
        )
        if active
        else None,
        top=top if active else (),
        quantiles=tuple(
            Quantile(at=at, examples=tuple(Example(12 + i, 2.0 * at) for i in range(4)))
            for at in (0.9, 0.5, 0.1)
        )
        if active
        else (),
    )


def without_examples(joint: InStream) -> InStream:
    assert joint.histogram is not None
    return dataclasses.replace(joint, histogram=dataclasses.replace(joint.histogram, examples=()))


def heat_map(place: int) -> HeatMap:
    y, x = np.mgrid[0:16, 0:16]
    cells = 255 * np.exp(-((x - 8) ** 2 + (y - 8) ** 2) / 18)
    data = base64.b64encode(cells.astype(np.uint8).tobytes()).decode()
    return HeatMap(row=place, width=16, height=16, data=data, largest=1.9)


def draw_sprite(plan: Plan, latent: int, folder: Path) -> None:
    sheet = Image.new("RGB", (6 * TILE, 3 * TILE), "white")
    pencil = ImageDraw.Draw(sheet)
    shift = random.Random(latent)
    for tile in range(18):
        of = latent if tile < 12 else latent + tile
        colour, form = COLOURS[of % len(COLOURS)], FORMS[of % len(FORMS)]
        x, y = tile % 6 * TILE, tile // 6 * TILE
        ground = f"hsl({shift.randrange(360)}, 45%, 88%)"
        pencil.rectangle((x, y, x + TILE, y + TILE), fill=ground)
        size = shift.randrange(24, 44)
        cx, cy = (
            x + shift.randrange(size, TILE - size + 1),
            y + shift.randrange(size, TILE - size + 1),
        )
        box = (cx - size, cy - size, cx + size, cy + size)
        if form == "circle":
            pencil.ellipse(box, fill=colour)
        elif form == "square":
            pencil.rectangle(box, fill=colour)
        elif form == "triangle":
            pencil.polygon(
                [(cx, cy - size), (cx + size, cy + size), (cx - size, cy + size)], fill=colour
            )
        elif form == "ring":
            pencil.ellipse(box, outline=colour, width=9)
        else:
            pencil.rectangle((cx - size, cy - 8, cx + size, cy + 8), fill=colour)
    path = folder / "images" / f"{latent // 1000:03d}" / f"{latent:05d}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=80)
