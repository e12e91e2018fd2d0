"""A search as plain text: its table, and the title of its contact sheet."""

import pyarrow as pa

from sparc.analyze.search.config import SearchConfig
from sparc.analyze.search.searcher import OWN_IMAGE
from sparc.common.text import shorten


def show(table: pa.Table) -> str:
    """The table of a search as plain text."""
    if not len(table):
        return "nothing found: no row shares an active latent with the query"
    lines = [f"{'score':>7}  {'row':>9}  {'image':<28} {'caption':<44} because of"]
    for row in table.to_pylist():
        image = shorten(row["image"] or row["sample_id"], 28)
        reasons = ", ".join(dict.fromkeys(row["names"])) or ", ".join(map(str, row["latents"]))
        own = f"{OWN_IMAGE}; " if row["own_image"] else ""
        lines.append(
            f"{row['score']:>7.3f}  {row['row']:>9}  {image:<28} "
            f"{shorten(row['caption'] or '', 44):<44} {own}{shorten(reasons, 40)}"
        )
    return "\n".join(lines)


def title(stream: str, config: SearchConfig) -> str:
    """The stream that was searched, then what the images are near to: not what they are."""
    if config.latent is not None:
        return f"in {stream}: nearest to latent {config.latent} alone"
    query = f'"{config.text}"' if config.text else str(config.image or f"row {config.row}")
    return f"in {stream}: nearest to {query}"
