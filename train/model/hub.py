"""The Hugging Face Hub: folders are published there and fetched from there.

Knows the hub's client; must not know what is inside the files.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from sparc.common.errors import RunError, SparcError, UnsafeError
from sparc.common.files.folder import Folder
from sparc.common.files.safe_files import parts_of
from sparc.common.text import printable

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Snapshot(Folder):
    """A model in the hub client's own cache, whose files are links into the client's store."""

    def inside(self, name: str = "") -> Path:
        """The file that a link leads to; it must lie in what the client keeps of the model."""
        assert self.local is not None
        target = Path(os.path.realpath(self.local.joinpath(*parts_of(self.local, name))))
        if not target.is_relative_to(Path(os.path.realpath(self.local)).parents[1]):
            raise UnsafeError(f"{self}/{name} leads out of the hub's cache")
        return target


def is_repository_id(text: str) -> bool:
    """Whether the text could be the id `owner/name` of a repository on the hub."""
    return _REPOSITORY.fullmatch(text) is not None


def require_repository_id(text: str) -> None:
    """Refuse what cannot be the id of a repository.

    Raises:
        SparcError: It is not `owner/name`.
    """
    if not is_repository_id(text):
        raise SparcError(f"{text!r} is not a repository id: write owner/name")


def download(repository: str, files: Sequence[str]) -> Snapshot:
    """Fetch files into the hub client's own cache.

    Args:
        repository: The id, `owner/name`.
        files: Their names.

    Returns:
        The folder on this machine that holds them.

    Raises:
        RunError: There is no such repository or no connection.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(repository, allow_patterns=list(files))
    except Exception as error:  # the client raises many kinds, its transport many more
        raise RunError(
            f"{repository} is neither a folder here nor a model that could be fetched "
            f"from the Hugging Face Hub: {_reason(error)}"
        ) from error
    return Snapshot(folder)


def upload(
    folder: str | Path, card: str, repository: str, *, private: bool, token: str | None
) -> str:
    """Publish a folder with a card.

    Args:
        folder: A folder on this machine; the card is added to it.
        card: The text of the repository's page, in Markdown.
        repository: The id `owner/name`; the repository is made if it is not there.
        private: Whether a new repository is private.
        token: An access token; None: the one that the hub's own login stored.

    Returns:
        The address of the commit.

    Raises:
        SparcError: The hub refused.
    """
    from huggingface_hub import HfApi

    (Path(folder) / "README.md").write_text(card, encoding="utf-8")
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload a SPARC model"
        )
    except Exception as error:  # the client raises many kinds, its transport many more
        raise SparcError(f"cannot publish to {repository}: {_reason(error)}") from error
    return str(commit.commit_url)


def _reason(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return printable(str(error).strip().partition("\n")[0]) or type(error).__name__
