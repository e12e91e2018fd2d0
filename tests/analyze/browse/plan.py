"""What the sites of the tests have, and what their latents stand for."""

import dataclasses

TILE = 96
COLOURS = ["crimson", "royalblue", "seagreen", "orange", "purple", "black", "deeppink", "teal"]
FORMS = ["circle", "square", "triangle", "ring", "bar"]

HOSTILE = [
    "<img src=x onerror=document.title='hurt'>",
    "</script><script>document.title='hurt'</script>",
    "javascript:document.title='hurt'",
    "evil \u202egnp.exe\u2066 \u0007 text",
    "w" * 10_000,
    "constructor",
]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a site has.

    Attributes:
        latents: L; every tenth is dead.
        streams: Their names; one called `text…` reads captions.
        labels: Whether rows carry classes.
        captions: Whether rows have captions, so that latents have names.
        pictures: Whether latents have sprite sheets.
        detailed: Details and pictures are written of the first so many latents.
        hostile: Whether names, captions and classes are hostile texts.
        more: Whether there are a map, bias reports, a comparison and heat maps.
    """

    latents: int = 60
    streams: tuple[str, ...] = ("dino", "clip", "text")
    labels: bool = True
    captions: bool = True
    pictures: bool = True
    detailed: int = 60
    hostile: bool = False
    more: bool = True


def concept(plan: Plan, latent: int) -> str:
    """What a latent stands for."""
    if plan.hostile:
        return HOSTILE[latent % len(HOSTILE)]
    return f"{COLOURS[latent % len(COLOURS)]} {FORMS[latent % len(FORMS)]}"


TWO_CONCEPTS = 8
"""A latent that its odd stream has for itself, while the others share something that it lacks."""


def is_dead(latent: int) -> bool:
    return latent % 10 == 9


def kind(plan: Plan, latent: int) -> str:
    """`shared`, or `only` or `lacking` in the stream that `latent` leads to, or neither."""
    if len(plan.streams) == 1 or is_dead(latent):
        return ""
    return {0: "shared", 1: "shared", 2: "only", 3: "lacking" if len(plan.streams) > 2 else ""}.get(
        latent % 5, ""
    )


def odd_stream(plan: Plan, latent: int) -> str:
    return plan.streams[latent // 5 % len(plan.streams)]


def streams_of(plan: Plan, latent: int) -> list[str]:
    """The streams that a latent is active in."""
    which = kind(plan, latent)
    odd = odd_stream(plan, latent)
    return [
        s
        for s in plan.streams
        if which not in ("only", "lacking") or (s == odd) == (which == "only")
    ]


def tiles(plan: Plan, latent: int) -> int:
    return 18 if plan.pictures and latent < plan.detailed and not is_dead(latent) else 0
