"""Models on the Hugging Face Hub: publishing one with a model card, and fetching one.

Knows the hub's client; must not know what is inside the files.
"""

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sparc.common.errors import RunError, SparcError, UnsafeError
from sparc.common.files.folder import Folder
from sparc.common.files.safe_files import parts_of
from sparc.common.text import printable

if TYPE_CHECKING:
    from sparc.train.model.network import Sparc

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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


class Snapshot(Folder):
    """A model in the hub client's own cache, whose files are links into the client's store."""

    def inside(self, name: str = "") -> Path:
        """The file that a link leads to; it must lie in what the client keeps of the model."""
        assert self.local is not None
        found = Path(os.path.realpath(self.local.joinpath(*parts_of(self.local, name))))
        if not found.is_relative_to(Path(os.path.realpath(self.local)).parents[1]):
            raise UnsafeError(f"{self}/{name} leads out of the hub's cache")
        return found


def is_repository_id(text: str) -> bool:
    """Whether the text could be the id `owner/name` of a repository on the hub."""
    return _REPOSITORY.fullmatch(text) is not None


def download(repository: str) -> Snapshot:
    """Fetch a model's two files into the hub client's own cache.

    Args:
        repository: Its id, `owner/name`.

    Returns:
        The folder on this machine that holds them.

    Raises:
        RunError: There is no such repository or no connection.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, allow_patterns=["config.json", "model.safetensors"])
    except Exception as error:  # the client raises many kinds, its transport many more
        reason = printable(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise RunError(
            f"{repository} is neither a folder here nor a model that could be fetched "
            f"from the Hugging Face Hub: {reason}"
        ) from error
    return Snapshot(folder)


def push_to_hub(
    model: "Sparc",
    repository: str,
    *,
    card: ModelCard | None = None,
    private: bool = False,
    token: str | None = None,
) -> str:
    """Publish a model: its two files and a model card.

    Args:
        model: The model.
        repository: The id `owner/name`; the repository is made if it is not there.
        card: What is known about the model.
        private: Whether a new repository is private.
        token: An access token; by default the one that the hub's own login stored.

    Returns:
        The address of the commit.

    Raises:
        SparcError: The id is malformed or the hub refused.
    """
    from huggingface_hub import HfApi

    if not is_repository_id(repository):
        raise SparcError(f"{repository!r} is no repository id; write owner/name")
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        text = render_card(model, repository, card or ModelCard())
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message="Upload a SPARC model"
            )
        except Exception as error:  # the client raises many kinds, its transport many more
            reason = printable(str(error).strip().partition("\n")[0]) or type(error).__name__
            raise SparcError(f"cannot publish to {repository}: {reason}") from error
    return str(commit.commit_url)


def render_card(model: "Sparc", repository: str, card: ModelCard) -> str:
    """The model card, in the hub's Markdown with its YAML head."""
    config = model.config
    head = ["library_name: sparc", "tags: [sparse-autoencoder, interpretability, multimodal]"]
    if card.license:
        # JSON's texts are YAML's too, whatever they hold.
        head.append(f"license: {json.dumps(card.license)}")
    lines = ["---", *head, "---", "", f"# {repository}", ""]
    together = "together (Global TopK)" if config.selection == "global" else "alone (Local TopK)"
    lines += [
        f"A SPARC model (arXiv 2507.06265): one dictionary of {config.latents:,} sparse latents "
        f"shared by {len(config.streams)} streams. {config.k} latents are selected for a row; the "
        f"streams select {together}.",
        "",
        "| stream | dim | encoder |",
        "|---|---|---|",
    ]
    for stream in config.streams:
        encoder = _cell(card.encoders.get(stream.name, ""))
        lines.append(f"| {stream.name} | {stream.dim} | {encoder} |")
    if card.dataset:
        rows = f", {card.rows:,} rows" if card.rows else ""
        lines += ["", f"Trained on {_cell(card.dataset)}{rows}."]
    if card.figures:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in card.figures.items()]
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


def _cell(text: str) -> str:
    """Text of unknown origin, safe inside a Markdown table and on one line."""
    return re.sub(r"([\\`|<>\[\]*_])", r"\\\1", printable(text))
