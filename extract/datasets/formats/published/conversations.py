r"""Conversations about images: LLaVA's lists and those in the forms of ShareGPT and OpenAI.

    DATASET/
      llava.json     [{"id": 7, "image": "coco/a.jpg", "conversations": [
                        {"from": "human", "value": "<image>\nWhat is this?"},
                        {"from": "gpt", "value": "A red fish."}, …]}, …]; or .jsonl, a line each
      images/…       the images, by `image`, in any folder

The format is called `llava`. The answers (`from` is `gpt` or `assistant`) are the captions of the
image, each once; questions are not used. Instead of these keys there may be `images` with one
image, and `messages` with `role` and `content`. An image has the answers of all entries that show
it, of all such files. Where the name of every file has a part like `train` or `val`, these are
splits. Further keys of an entry may become columns of the cache (`--column`).
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sparc.common.errors import DatasetError
from sparc.extract.datasets.formats.published.documents import documents_with, json_entries
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.safe_folder import SafeFolder, folder_of, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source, image_ids
from sparc.extract.datasets.splits import SYNONYMS
from sparc.extract.datasets.tables.cells import text_of
from sparc.extract.datasets.tables.finding import metadata_files

_SUFFIXES = (".json", ".jsonl")
_TURNS = ("conversations", "messages", "conversation")
_READ = ("image", "images", *_TURNS)
_ANSWERS = ("gpt", "assistant", "model", "chatgpt", "bot")
_TAG = re.compile(r"<(?:image|video)>")


class ConversationsDataset(DatasetReader):
    """Images with conversations; see the module."""

    absence = "no JSON of images with conversations"
    yields_to = ("coco", "karpathy")

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A list of entries with image and conversation, unless the folder has other metadata."""
        return None if metadata_files(folder) else next(iter(_files(folder)), None)

    @classmethod
    def advice(cls, folder: SafeFolder, file: str) -> str:
        """For such a list in a folder of another format."""
        return "--format llava reads the answers" if file in _files(folder) else ""

    def splits(self) -> Collection[str]:
        """The parts of the files' names that are called like splits, if each has one."""
        splits = {file: _split_of(file) for file in _files(self.folder)}
        return sorted(set(splits.values())) if all(splits.values()) else ()

    def read(self, split: str) -> Source:
        """The images in the order in which they are mentioned first."""
        files = [f for f in _files(self.folder) if not split or _split_of(f) == split]
        if not files:
            raise DatasetError(f"{self.folder} has no JSON list of images with conversations")
        captions: dict[str, list[str]] = defaultdict(list)
        columns: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for file in files:
            for path, answers, entry in self._entries(file):
                new = [answer for answer in answers if answer not in captions[path]]
                captions[path].extend(new)
                columns[path].extend([self.columns.of(entry, without=_READ)] * len(new))
        if not captions:
            first = next((self.account.omissions(file).first for file in files), "")
            raise DatasetError(f"{self.folder} has no entry that can be used: {first}")
        ids = image_ids([*captions])
        return Source(
            named_in=files[0] if len(files) == 1 else "the conversations",
            records=[
                ImageRecord(sample_id, path, captions=texts, caption_columns=columns[path])
                for sample_id, (path, texts) in zip(ids, captions.items(), strict=True)
            ],
        )

    def is_of_other_split(self, file: str, split: str) -> bool:
        """Whether a list belongs to another split; of an image nobody knows before it is read."""
        return file in _files(self.folder) and _split_of(file) != split

    def _entries(self, file: str) -> Iterator[tuple[str, Sequence[str], Mapping[str, Any]]]:
        """The entries that can be used: the image's path, the answers, all keys."""
        names = self.account.names(self.folder.images)
        omissions = self.account.omissions(file)
        below = (folder_of(file), "images/", "")
        others: dict[str, None] = {}
        for where, entry in json_entries(self.folder, file, omissions, "entry"):
            image = _image_of(entry)
            turns = next((entry[key] for key in _TURNS if key in entry), None)
            if isinstance(image, list):
                omissions.add("entry", "its answers are about several images", where)
            elif not image:
                omissions.add("entry", "it has no image", where)
            elif not isinstance(turns, list):
                omissions.add("entry", "it has no list of conversations", where)
            else:
                others.update(dict.fromkeys(entry.keys() - _READ))
                answers = list(dict.fromkeys(filter(None, map(_answer, turns))))
                if not answers:
                    omissions.add("caption", "the conversation has no answer", where)
                yield names.path(image, below=below), answers, entry
        self.columns.enter(self.account, file, ("image", "answers"), sorted(others))


def _files(folder: SafeFolder) -> list[str]:
    """The lists of images with conversations, sorted."""
    files = {
        file
        for turns in _TURNS[:2]
        for file in documents_with(folder, f'"{turns}"', '"image', suffixes=_SUFFIXES)
    }
    return sorted(files)


def _split_of(file: str) -> str:
    """The part of a file's name that is called like a split; empty where none is."""
    parts = re.split(r"[^A-Za-z]+", posixpath.basename(split_suffix(file)[0]))
    return next((part for part in parts if part.lower() in SYNONYMS), "")


def _image_of(entry: Mapping[str, Any]) -> str | list[Any]:
    """The name of the image that an entry shows; a list where there are several; empty: none."""
    image = entry.get("image", entry.get("images"))
    if isinstance(image, list):
        return text_of(image[0]) if len(image) == 1 else image
    return text_of(image)


def _answer(turn: Any) -> str:
    """What a turn of a conversation answers; empty where it is no answer."""
    if not isinstance(turn, dict):
        return ""
    speaker = text_of(turn.get("from", turn.get("role"))).lower()
    value = turn.get("value", turn.get("content"))
    if isinstance(value, list):  # OpenAI's parts
        value = " ".join(text_of(part.get("text")) for part in value if isinstance(part, dict))
    return _TAG.sub("", text_of(value)).strip() if speaker in _ANSWERS else ""
