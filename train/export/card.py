"""The page beside exported dictionaries: what they are, how to load them, what differs there."""

from collections.abc import Iterator, Mapping, Sequence

from sparc.common.streams.info import StreamInfo
from sparc.train.config import ModelConfig
from sparc.train.dictionaries.formats.format import WritableFormat
from sparc.train.model.card import table_cell
from sparc.train.model.selectors.registry import SELECTORS
from sparc.train.model.selectors.selector import selector_of


def export_card(
    config: ModelConfig,
    streams: Sequence[str],
    known: Mapping[str, StreamInfo],
    form: WritableFormat,
    sentences: Sequence[str],
) -> str:
    """The page, in Markdown.

    Args:
        config: The model that was exported.
        streams: Its streams that were, each in a folder of its name.
        known: What made the streams' features, by name, where that is known.
        form: The format.
        sentences: What the program does otherwise, and what else its users should know.
    """
    dims = {stream.name: stream.dim for stream in config.streams}
    rows = [
        f"| {name} | {dims[name]} | "
        f"{table_cell(known[name].origin.spec) if name in known else ''} |"
        for name in streams
    ]
    scaled = " (it scales them itself)" if config.normalize == "unit" else ""
    lines = [
        "# Dictionaries of SPARC",
        "",
        f"Each folder is a dictionary of {config.latents:,} sparse latents, that of one stream of "
        "a SPARC model (arXiv 2507.06265).",
        "",
        "| folder | dim | encoder |",
        "|---|---|---|",
        *rows,
        "",
        "```python",
        form.load.replace("FOLDER", f'"{streams[0]}"'),
        "```",
        "",
        f'The codes are those of `sparc.load(…).encode(features, "independent", stream=…)`, from '
        f"raw features{scaled}, (rows, dim).",
        "",
        *(f"- {sentence}" for sentence in (*_alone(config), *sentences)),
        "",
    ]
    return "\n".join(lines)


def _alone(config: ModelConfig) -> Iterator[str]:
    """What the model does with several streams, and one dictionary cannot."""
    if len(config.streams) == 1:
        return
    if selector_of(config.selection).own_mode == "joint":
        yield (
            "The streams of the model share their latents, by number. In joint mode they also use "
            f"the same ones for a row: here {config.k}, {SELECTORS[config.selection].summary}. A "
            "dictionary on its own sees one stream and selects by its logits alone."
        )
    yield (
        "In the model a stream's code also rebuilds the features of the others, through the "
        "decoders of the other folders."
    )
