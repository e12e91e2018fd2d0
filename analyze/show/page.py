"""A latent as plain text, on one screen."""

from collections.abc import Iterator, Sequence

from sparc.analyze.concepts.evidence import LEAST_IMAGES
from sparc.analyze.concepts.names import GUESS
from sparc.analyze.show.view import InPair, InStream, Latent, LatentImage, Nearest
from sparc.common.text import amount, listed, shorten

_PARTNERS = 4
_NAMES = 5
_IMAGES = 3


def show(latent: Latent) -> str:
    """The latent as plain text."""
    return "\n".join(_lines(latent))


def _lines(latent: Latent) -> Iterator[str]:
    yield f"latent {latent.number}: {_verdict(latent)}"
    alive = [stream for stream in latent.streams if stream.images]
    yield ""
    yield f"  {'stream':<12} {'images':>7} {'share':>6} {'rows':>7} {'alike':>6}  names"
    yield from map(_stream_line, latent.streams)
    if any(stream.labelled for stream in alive):
        yield ""
        yield "CLASSES of its rows, with their share (and that of all rows)"
        yield from (_class_line(stream) for stream in alive if stream.labelled)
    if latent.pairs:
        yield ""
        yield (
            "DO STREAMS AGREE? on images (by their first row), on classes (in brackets: mispaired "
            "latents, chance)"
        )
        yield from map(_pair_line, latent.pairs)
        yield from map(_nearest_line, latent.nearest)
    if latent.partners:
        yield ""
        yield (
            "PARTNERS in the same stream, active on the same images (by their first row) more "
            "often than by chance"
        )
        yield from (f"  {stream.stream}: {_partners(latent, stream)}" for stream in alive)
    if alive:
        yield ""
        yield "IMAGES, the strongest first: value, row, caption"
        for stream in alive:
            yield from _image_lines(stream)
    if any(name.guess for stream in alive for name in stream.names[:_NAMES]):
        yield f"?: fewer than {GUESS} images support the name: a guess"


def _verdict(latent: Latent) -> str:
    streams = [stream.stream for stream in latent.streams]
    images = {stream.stream: stream.images for stream in latent.streams}
    if not any(images.values()):
        return f"active on none of {amount(latent.images, 'image')}: nothing can be said of it"
    if latent.shared:
        return f"shared by {', '.join(streams)}"
    if latent.lacking and latent.only:
        own, others = ", ".join(latent.lacking), [s for s in streams if s not in latent.lacking]
        return (
            f"two concepts share this number: {own}'s own, which no other stream has; and that of "
            f"{listed(others)}, which {own} lacks"
        )
    if latent.lacking:
        return f"all streams but {', '.join(latent.lacking)} share it"
    if len(latent.only) > 1:
        return (
            f"one number for unrelated things in {', '.join(latent.only)}: what it stands for in "
            "each of them, no latent of another stream matches"
        )
    if latent.only:
        return f"only in {', '.join(latent.only)}: no latent of another stream matches it"
    shared = [f"{pair.first} and {pair.second}" for pair in latent.pairs if pair.shared]
    few = [stream for stream, count in images.items() if count < LEAST_IMAGES]
    said = f"shared by {'; '.join(shared)}" if shared else "not shared by two streams"
    thin = f" (too thin to say in {', '.join(few)})" if few else ""
    return "active" if len(streams) == 1 else said + thin


def _stream_line(stream: InStream) -> str:
    names = ", ".join(
        f"{shorten(str(name), 24)} ({name.images} of {name.of})" for name in stream.names[:_NAMES]
    )
    alike = "-" if stream.monosemanticity is None else f"{stream.monosemanticity:.2f}"
    return (
        f"  {shorten(stream.stream, 12):<12} {stream.images:>7,} {stream.frequency:>6.1%} "
        f"{stream.rows:>7,} {alike:>6}  {names or ('-' if stream.images else 'dead')}"
    )


def _class_line(stream: InStream) -> str:
    classes = ", ".join(
        f"{shorten(c.name, 24)} {c.share:.0%} ({c.base_rate:.1%})" for c in stream.classes
    )
    return f"  {stream.stream}: {classes or 'none above its base rate'}"


def _pair_line(pair: InPair) -> str:
    figures = [f"overlap {_against(pair.overlap, pair.overlap_mispaired)}"]
    if pair.agreement is not None:
        figures.append(f"agreement {_against(pair.agreement, pair.agreement_mispaired)}")
    return (
        f"  {pair.first}, {pair.second}: {amount(pair.images_both, 'image')} in both, "
        f"{', '.join(figures)}, q {pair.q:.1g}: {'SHARED' if pair.shared else 'not shared'}"
    )


def _against(value: float | None, chance: float | None) -> str:
    shown = ("-" if figure is None else f"{figure:.2f}" for figure in (value, chance))
    return "{} ({})".format(*shown)


def _nearest_line(nearest: Nearest) -> str:
    if nearest.latent is None:
        what = f"no latent of {nearest.other} is active on one of its images in {nearest.stream}"
    else:
        what = (
            f"its images in {nearest.stream} are nearest to latent {nearest.latent} of "
            f"{nearest.other}, overlap {nearest.overlap:.2f}"
        )
    if nearest.limit is None:
        return f"  {what}: unclear, too little is shared to compare with"
    if nearest.lacking:
        verdict = f"{nearest.other} LACKS it"
    elif nearest.overlap > nearest.limit:
        verdict = f"{nearest.other} has it there" if nearest.latent is not None else "unclear"
    else:
        verdict = "too thin to say"
    return f"  {what} (must exceed {nearest.limit:.2f}): {verdict}"


def _partners(latent: Latent, stream: InStream) -> str:
    partners = [p for p in latent.partners if p.stream == stream.stream][:_PARTNERS]
    shown = (
        f"{p.latent}{f' {shorten(str(p.names[0]), 16)}' if p.names else ''} "
        f"({p.images_both} images, {p.lift:.0f} times chance)"
        for p in partners
    )
    return ", ".join(shown) or "-"


def _image_lines(stream: InStream) -> Iterator[str]:
    shown: Sequence[LatentImage] = (*stream.strongest[:_IMAGES], *stream.quantiles)
    for number, image in enumerate(shown):
        head = shorten(stream.stream, 12) if number == 0 else ""
        place = f"{image.place} of {stream.images:,}"
        text = shorten(image.caption or image.image or image.sample_id, 60)
        yield f"  {head:<12} {place:<12} {image.value:>7.3f} row {image.row:<8} {text}"
