"""Which members of a shard belong together: an image, its texts, its metadata.

The key of a member is its name up to the first dot, as WebDataset has it, and members of one key
are one sample. People also have dots in their names (`clip.000.jpg` with `clip.000.txt`), several
images in a sample (`0.left.jpg`, `0.right.jpg`) and texts named like images with their suffix
(`0.jpg.txt`). This module must not know what is in the members.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from sparc.extract.datasets.safe_folder import IMAGE_SUFFIXES, is_hidden

LABEL_SUFFIXES = (".cls", ".label", ".class")
"""Suffixes of members whose content is a class."""

TEXT_SUFFIXES = (".txt", ".caption", ".text", ".cap")
"""Of members whose content is a caption, the preferred first."""

_COMPANIONS = frozenset(
    {"txt", "text", "caption", "captions", "cap", "title", "alt", "prompt"}
    | {"json", "meta", "metadata", "info", "cls", "label", "labels", "class"}
)
"""What stands between key and suffix in the names of members that describe the sample."""


class Member(NamedTuple):
    """A member of a shard, by its name.

    Attributes:
        name: The whole name.
        key: Up to the first dot after the folders.
        stem: Up to the last dot.
        suffix: The last suffix, in lower case; empty if there is none.
    """

    name: str
    key: str
    stem: str
    suffix: str

    @classmethod
    def parse(cls, name: str) -> "Member":
        """Divide a name."""
        folder, slash, base = name.rpartition("/")
        first = base.partition(".")[0]
        stem, dot, suffix = base.rpartition(".")
        if not dot:
            return cls(name, name, name, "")
        below = folder + slash
        return cls(name, below + first, below + stem, f".{suffix.lower()}")

    @property
    def is_image(self) -> bool:
        """Whether it has the suffix of an image."""
        return self.suffix in IMAGE_SUFFIXES

    @property
    def extension(self) -> str:
        """What follows the key, in lower case: WebDataset's name of the member's field."""
        return self.name[len(self.key) :].lower()

    @property
    def is_label(self) -> bool:
        """Whether the content is a class: `.cls`, `.cls.txt`."""
        if self.suffix in LABEL_SUFFIXES:
            return True
        return self.stem != self.key and self.extension in (".cls.txt", ".label.txt")


class Picture(NamedTuple):
    """An image of a sample, which is a row, with the members that describe it.

    Attributes:
        sample_id: The sample's key, or the image's own name without suffix if its sample has
            several images.
        image: Its member.
        others: The members that describe it, the closest in name first.
        group: The sample's key, if other images of the sample share what describes it.
    """

    sample_id: str
    image: Member
    others: Sequence[Member]
    group: str = ""

    @property
    def texts(self) -> Iterator[Member]:
        """Those that are captions, the preferred first."""
        for member in self.others:
            if member.suffix in TEXT_SUFFIXES and not member.is_label:
                yield member

    @property
    def documents(self) -> Iterator[Member]:
        """Those that are JSON."""
        return (member for member in self.others if member.suffix == ".json")

    @property
    def labels(self) -> Iterator[Member]:
        """Those that are classes."""
        return (member for member in self.others if member.is_label)

    def field(self, member: Member) -> str:
        """What a member is called in the account: without the part that names the image."""
        if member.stem in (self.image.stem, self.image.name):
            return member.suffix
        return member.extension


class Samples(NamedTuple):
    """The samples of a shard.

    Attributes:
        pictures: In the order of their samples.
        unused: Members that belong to no picture.
        without_image: Keys of the samples that have no image.
        hidden: Members that systems leave behind; they are no part of a dataset.
    """

    pictures: list[Picture]
    unused: list[Member]
    without_image: list[str]
    hidden: list[str]


def put_together(names: Iterable[str]) -> Samples:
    """Make samples of the names of a shard's members."""
    by_key: dict[str, list[Member]] = {}
    result = Samples([], [], [], [])
    for name in names:
        if any(map(is_hidden, name.split("/"))):
            result.hidden.append(name)
        else:
            member = Member.parse(name)
            by_key.setdefault(member.key, []).append(member)
    for key, members in by_key.items():
        images = [member for member in members if member.is_image]
        others = [member for member in members if not member.is_image]
        if not images:
            result.without_image.append(key)
            result.unused.extend(others)
            continue
        if len(images) == 1 and all(member.stem == key for member in members):
            result.pictures.append(Picture(key, images[0], sorted(others, key=_preference)))
            continue
        pictures = _pictures(key, images, others)
        result.pictures.extend(pictures)
        used = {member.name for p in pictures for member in (p.image, *p.others)}
        result.unused.extend(member for member in members if member.name not in used)
    return result


def _pictures(key: str, images: Sequence[Member], others: Sequence[Member]) -> list[Picture]:
    chosen = _rows_of(key, images, others)
    described = {member.stem for member in others}
    names = {name for image in images for name in (image.stem, image.name)}
    pictures = []
    for image in chosen:
        own = {image.stem, image.name}
        is_alone = len(chosen) == 1 and (image.stem == key or not own & described)
        describing = _describing(image, others, own, names)
        shares = len(chosen) > 1 and not own & described
        sample_id, group = key if is_alone else image.stem, key if shares else ""
        pictures.append(Picture(sample_id, image, describing, group))
    return pictures


def _rows_of(key: str, images: Sequence[Member], others: Sequence[Member]) -> Sequence[Member]:
    """The images of a sample that are rows.

    An image named by the key alone (`0.jpg`) stands for the sample, and what lies beside it
    (`0.seg.png`) describes that image, unless it has a text of its own. Where none is named so,
    each is a row. Of images that differ only in their suffix the first is one.
    """
    if len(images) == 1:
        return images
    first_of_stem: dict[str, Member] = {}
    for image in images:
        first_of_stem.setdefault(image.stem, image)
    if key not in first_of_stem:
        return list(first_of_stem.values())
    described = {member.stem for member in others}
    return [
        image
        for stem, image in first_of_stem.items()
        if stem == key or stem in described or image.name in described
    ]


def _describing(
    image: Member, others: Sequence[Member], own: Set[str], of_images: Set[str]
) -> Sequence[Member]:
    """The members that describe an image of their sample, the closest in name first.

    A text named like another image, present (`clip.001.txt`) or lost, is not this one's.
    """
    if all(member.stem in own for member in others):
        return sorted(others, key=_preference)
    ranks: list[list[Member]] = [[], [], []]
    for member in others:
        middle = member.stem[len(member.key) + 1 :].lower()
        if member.stem in own:
            ranks[0].append(member)
        elif member.stem == member.key:
            ranks[1].append(member)
        elif member.stem not in of_images and (image.stem == image.key or middle in _COMPANIONS):
            ranks[2].append(member)
    return [member for rank in ranks for member in sorted(rank, key=_preference)]


def _preference(member: Member) -> int:
    is_text = member.suffix in TEXT_SUFFIXES
    return TEXT_SUFFIXES.index(member.suffix) if is_text else len(TEXT_SUFFIXES)
