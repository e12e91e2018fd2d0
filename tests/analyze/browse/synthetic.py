"""Sites of invented reports, with the pictures, names and odd texts that tests of the page need."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from sparc.analyze.browse.contents import columns as encode
from sparc.analyze.browse.contents.detail import Details
from sparc.analyze.browse.contents.index import (
    AboutReport,
    Column,
    ControlFigure,
    DetailFiles,
    Headline,
    Images,
    Index,
    Stream,
    Views,
    lists,
)
from sparc.analyze.browse.contents.scripts import script
from sparc.analyze.browse.contents.views import (
    Association,
    BiasReport,
    BiasReports,
    Comparison,
    Comparisons,
    Map,
    Matches,
    MeetingPair,
    OtherLatent,
    Words,
)

from .latents import detail, draw_sprite
from .plan import COLOURS, TILE, Plan, concept, is_dead, kind, odd_stream, streams_of, tiles

PER_FILE = 32


def write_site(folder: Path, plan: Plan) -> Path:
    """Write the data and the pictures of a site; the page itself is copied by the caller."""
    data = folder / "data"
    (data / "latents").mkdir(parents=True)
    (data / "index.js").write_bytes(script("index", index(plan)))
    for start in range(0, plan.detailed, PER_FILE):
        latents = range(start, min(start + PER_FILE, plan.detailed))
        details = {str(n): detail(plan, n) for n in latents if not is_dead(n)}
        number = start // PER_FILE
        (data / "latents" / f"{number:04d}.js").write_bytes(
            script(f"latents/{number}", Details(latents=details))
        )
        for latent in latents if plan.pictures else []:
            if not is_dead(latent):
                draw_sprite(plan, latent, folder)
    if plan.captions or plan.labels:
        (data / "words.js").write_bytes(script("words", words(plan)))
    if plan.more:
        (data / "map.js").write_bytes(script("map", place(plan)))
        (data / "bias.js").write_bytes(script("bias", bias(plan)))
        (data / "compare.js").write_bytes(script("compare", comparison(plan)))
    return folder


def index(plan: Plan) -> Index:
    names = sorted({concept(plan, n) for n in range(plan.latents)}) if plan.labels else []
    members = [[n for n in range(plan.latents) if concept(plan, n) == name] for name in names]
    return Index(
        title="shapes <of> colours" if plan.hostile else "shapes/report",
        command="sparc-analyze browse shapes/report site",
        report=AboutReport(
            location="shapes/it's a report" if plan.hostile else "shapes/report",
            run="shapes/run",
            cache="shapes/cache",
            dataset="shapes",
            rows=1200,
            images=600,
            latents=plan.latents,
            k=16,
            classes=len(names),
            captions=plan.captions,
            recipe="shared",
            versions={"sparc-sae": "0.1.0"},
        ),
        streams=tuple(
            Stream(
                name=s,
                modality="text" if s.startswith("text") else "image",
                encoder=f"timm:{s}",
                dim=384,
            )
            for s in plan.streams
        ),
        notes=("2 latents are compared in part: their images are too few.",),
        headlines=headlines(),
        columns=tuple(list_columns(plan)),
        classes=tuple(names),
        class_latents=lists(members),
        details=DetailFiles(latents_per_file=PER_FILE),
        images=Images(tile=TILE, format="webp" if plan.pictures else "", dropped=""),
        views=Views(
            map=plan.more, bias=plan.more, compare=plan.more, words=plan.captions or plan.labels
        ),
    )


def headlines() -> tuple[Headline, ...]:
    def figure(text: str, value: float | None, controls: dict[str, float], **rest: Any) -> Headline:
        fields: dict[str, Any] = {
            "section": "AGREEMENT",
            "mode": "independent",
            "range": (0, 1),
            **rest,
        }
        return Headline(
            text=text,
            explanation="0: not at all, 1: fully.",
            value=value,
            low=value and value * 0.97,
            high=value and value * 1.03,
            controls=tuple(
                ControlFigure(name=name, value=of, low=None, high=None)
                for name, of in controls.items()
            ),
            **fields,
        )

    chance = {"mispaired latents (chance)": 0.04, "untrained model": 0.044}
    return (
        figure("agreement, classes at depth 3", 0.375, chance),
        figure("agreement, classes at depth 3", 0.867, chance, mode="joint", given=True),
        figure(
            "distinct latents",
            379,
            {"shifted (chance)": 510},
            section="TWINS",
            range=None,
            unit="latents",
            style="count",
        ),
        figure("NMSE", 0.264, {"untrained model": 0.463}, section="TRANSLATION", better="lower"),
        figure("recall at 1", None, {}, section="RETRIEVAL", missing="rows have no captions"),
    )


def list_columns(plan: Plan) -> list[Column]:
    """The columns of the list, by one seed: the same at every call."""
    total = plan.latents
    numbers = np.random.default_rng(0)
    dead = np.array([is_dead(n) for n in range(total)])
    rows = np.where(dead, 0, numbers.integers(3, 400, total))
    agreement = np.where(dead, np.nan, numbers.beta(2, 3, total))
    chance = np.where(dead, np.nan, numbers.beta(2, 30, total))
    kinds = [kind(plan, n) for n in range(total)]
    odd = [odd_stream(plan, n) for n in range(total)]

    def column(key: str, label: str, group: Any, of: Any, data: Any, **rest: Any) -> Column:
        return Column(
            key=key,
            label=label,
            help=f"{label} of the latent.",
            group=group,
            kind=of,
            data=data,
            **rest,
        )

    interest = np.where(dead, 0, np.nan_to_num(agreement - chance) * np.log1p(rows))
    result = [
        column("interest", "interest", "sharing", "number", encode.floats(interest)),
        column("dead", "dead", "size", "flag", encode.flags(dead)),
        column("rows", "rows", "size", "count", encode.counts(rows), shown=True),
        column("frequency", "frequency", "size", "share", encode.floats(rows / 1200)),
        column(
            "alive_in",
            "alive in",
            "size",
            "count",
            encode.counts([0 if is_dead(n) else len(streams_of(plan, n)) for n in range(total)]),
        ),
        column(
            "tiles",
            "pictures",
            "size",
            "count",
            encode.counts([tiles(plan, n) for n in range(total)]),
        ),
    ]
    if len(plan.streams) > 1:
        result += [
            column(
                "agreement",
                "agreement",
                "sharing",
                "share",
                encode.floats(agreement),
                mode="independent",
                chance="agreement_mispaired",
                shown=True,
            ),
            column(
                "agreement_mispaired",
                "chance of agreement",
                "sharing",
                "share",
                encode.floats(chance),
            ),
            column(
                "agreement_joint",
                "agreement",
                "joint",
                "share",
                encode.floats(np.sqrt(agreement)),
                mode="joint",
                shown=True,
            ),
            column(
                "shared",
                "shared",
                "sharing",
                "flag",
                encode.flags([k == "shared" for k in kinds]),
                shown=True,
            ),
            column(
                "only",
                "only in",
                "sharing",
                "text",
                encode.texts([o if k == "only" else None for k, o in zip(kinds, odd, strict=True)]),
            ),
            column(
                "lacking",
                "lacking in",
                "sharing",
                "text",
                encode.texts(
                    [o if k == "lacking" else None for k, o in zip(kinds, odd, strict=True)]
                ),
            ),
        ]
    for stream in plan.streams:
        here = [stream in streams_of(plan, n) and not is_dead(n) for n in range(total)]
        texts = encode.texts([concept(plan, n) if here[n] else None for n in range(total)])
        if plan.captions:
            result.append(column(f"name:{stream}", "name", "meaning", "text", texts, stream=stream))
            guesses = encode.flags([n % 7 == 0 for n in range(total)])
            result.append(
                column(f"guess:{stream}", "guess", "meaning", "flag", guesses, stream=stream)
            )
        if plan.labels:
            result.append(
                column(f"class:{stream}", "class", "meaning", "text", texts, stream=stream)
            )
            purity = encode.floats(np.where(here, numbers.beta(3, 3, total), np.nan))
            result.append(
                column(f"purity:{stream}", "purity", "meaning", "share", purity, stream=stream)
            )
        share = encode.floats(np.where(here, numbers.beta(5, 3, total), np.nan))
        result.append(
            column(
                f"selection_share:{stream}",
                "share of the selection",
                "stream share",
                "share",
                share,
                stream=stream,
            )
        )
    return result


def words(plan: Plan) -> Words:
    by_word: dict[str, set[int]] = {}
    for latent in range(plan.latents):
        if not is_dead(latent):
            for word in [*concept(plan, latent)[:80].lower().split(), "white"]:
                by_word.setdefault(word, set()).add(latent)
    sorted_words = sorted(by_word)
    members = lists([sorted(by_word[word]) for word in sorted_words])
    return Words(words=tuple(sorted_words), starts=members.starts, latents=members.latents)


def place(plan: Plan) -> Map:
    alive = np.array([n for n in range(plan.latents) if not is_dead(n)])
    numbers = np.random.default_rng(1)
    angle = alive % len(COLOURS) / len(COLOURS) * 2 * np.pi
    x = 0.5 + 0.35 * np.cos(angle) + numbers.normal(0, 0.04, len(alive))
    y = 0.5 + 0.35 * np.sin(angle) + numbers.normal(0, 0.04, len(alive))
    return Map(
        method="t-SNE of decoder rows, seed 0",
        latents=encode.counts(alive),
        x=encode.floats(x.clip(0, 1)),
        y=encode.floats(y.clip(0, 1)),
    )


def bias(plan: Plan) -> BiasReports:
    red = BiasReport(
        name="class:red",
        attribute="class red",
        against=None,
        images_with=80,
        images_without=520,
        note="One attribute, all latents.",
        smallest="1.4 with 80 images",
        associations=tuple(
            Association(
                stream=plan.streams[n % len(plan.streams)],
                latent=n,
                name=concept(plan, n),
                effect=3 - 0.3 * n,
                low=2.2 - 0.3 * n,
                high=3.7 - 0.3 * n,
                q=10.0 ** (n - 9),
                associated=n < 8,
                images_with=12,
                images_without=3,
            )
            for n in range(20)
            if not is_dead(n)
        ),
        pairs=(
            MeetingPair(
                stream=plan.streams[0],
                first=0,
                first_name=concept(plan, 0),
                second=1,
                second_name=concept(plan, 1),
                images_with=9,
                images_without=1,
                interaction=1.5,
                q=0.001,
            ),
        ),
    )
    blue = dataclasses.replace(
        red, name="class:blue", attribute="class blue", associations=(), pairs=()
    )
    return BiasReports(reports=(red, blue))


def comparison(plan: Plan) -> Comparisons:
    match = np.array([n if n % 3 else -1 for n in range(plan.latents)])
    similarity = np.where(match >= 0, 0.9 - np.arange(plan.latents) / plan.latents / 2, np.nan)
    other = OtherLatent(names={plan.streams[0]: "something else"})
    baseline = Comparison(
        name="baseline",
        location="shapes/baseline",
        limit=0.4,
        latents=Matches(match=encode.places(match), similarity=encode.floats(similarity)),
        headlines=tuple(
            dataclasses.replace(figure, value=figure.value and figure.value * 1.1)
            for figure in headlines()
        ),
        gained=(3, 6),
        lost=tuple(n for n in range(plan.latents) if n % 3 == 0),
        details={3: other, 6: other},
        notes=("Of other rows.",),
    )
    return Comparisons(reports=(baseline,))
