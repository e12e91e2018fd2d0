"""The page beside exported dictionaries: what they are, how to load them, what differs there."""

from collections.abc import Mapping, Sequence

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
    joint = selector_of(config.selection).own_mode == "joint"
    shared = " The streams were trained to share their latents, by number." if joint else ""
    scaled = " (it scales them itself)" if config.normalize == "unit" else ""
    lines = [
        "# Dictionaries of SPARC",
        "",
        f"Each folder is a dictionary of {config.latents:,} sparse latents, that of one stream of "
        f"a SPARC model (arXiv 2507.06265).{shared}",
        "",
        "| folder | dim | encoder |",
        "|---|---|---|",
        *rows,
        "",
        "```python",
        form.load.replace("FOLDER", f'"{streams[0]}"'),
        f"codes = sae.encode(features)  # raw features of that encoder, (rows, {dims[streams[0]]})",
        "```",
        "",
        f'The codes are those of `sparc.load(…).encode(features, "independent", stream=…)`, from '
        f"raw features{scaled}. What SPARC also does, and one dictionary cannot:",
        "",
        f"- In joint mode the streams of a row use the same latents: here {config.k} for a row, "
        f"{SELECTORS[config.selection].summary}. A dictionary on its own sees one stream and "
        "selects by its logits alone.",
        "- A stream's code also rebuilds the other streams' features, through their decoders: "
        "here `codes @ W_dec + b_dec` of another folder, up to the norm of the row.",
        *(f"- {sentence}" for sentence in sentences),
        "",
    ]
    return "\n".join(lines)
