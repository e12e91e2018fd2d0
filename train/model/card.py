"""The model card: what a reader of a model's page on the hub is shown.

Must not know the hub.
"""

import dataclasses
import json
import re

from sparc.common.text import printable
from sparc.train.config import ModelConfig
from sparc.train.model.selectors.registry import SELECTORS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known about a model; whatever is empty is left out of its card.

    Attributes:
        encoders: By stream, the spec of the encoder whose features it reads.
        dataset: What the model was trained on.
        rows: Rows in the training data.
        figures: By name, a measured figure as it should be shown.
        license: The licence of the weights, as the hub spells it.
    """

    encoders: dict[str, str] = dataclasses.field(default_factory=dict)
    dataset: str = ""
    rows: int = 0
    figures: dict[str, str] = dataclasses.field(default_factory=dict)
    license: str = ""


def render_card(config: ModelConfig, repository: str, card: ModelCard) -> str:
    """The model card, in the hub's Markdown with its YAML head.

    Args:
        config: The model.
        repository: The id `owner/name` that it is loaded by.
        card: What else is known about it.
    """
    head = ["library_name: sparc", "tags: [sparse-autoencoder, interpretability, multimodal]"]
    if card.license:
        # JSON's texts are YAML's too, whatever they hold.
        head.append(f"license: {json.dumps(card.license)}")
    lines = ["---", *head, "---", "", f"# {repository}", ""]
    lines += [
        f"A SPARC model (arXiv 2507.06265): one dictionary of {config.latents:,} sparse latents "
        f"shared by {len(config.streams)} streams. With k = {config.k} a row uses these latents: "
        f"{SELECTORS[config.selection].summary}.",
        "",
        "| stream | dim | encoder |",
        "|---|---|---|",
    ]
    for stream in config.streams:
        encoder = table_cell(card.encoders.get(stream.name, ""))
        lines.append(f"| {stream.name} | {stream.dim} | {encoder} |")
    if card.dataset:
        rows = f", {card.rows:,} rows" if card.rows else ""
        lines += ["", f"Trained on {table_cell(card.dataset)}{rows}."]
    if card.figures:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [
            f"| {table_cell(name)} | {table_cell(value)} |" for name, value in card.figures.items()
        ]
    lines += [
        "",
        "```python",
        "from sparc.train import load",
        "",
        f'model = load("{repository}")',
        "codes = model.encode(features)  # by stream: raw features, (rows, dim)",
        "```",
        "",
    ]
    return "\n".join(lines)


def table_cell(text: str) -> str:
    """Text of unknown origin, safe inside a Markdown table and on one line."""
    return re.sub(r"([\\`|<>\[\]*_])", r"\\\1", printable(text))
