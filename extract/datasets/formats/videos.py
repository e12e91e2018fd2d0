"""Images that are frames of videos, by their names: consecutive numbers in a folder.

Neighbouring frames are nearly equal, so that one in training and the next one held out make a test
worthless. This module must not know any dataset format.
"""

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sparc.extract.datasets.safe_folder import split_suffix

_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)\D*")
_CALLED_FRAME = re.compile(r"(?:frame|frm)s?[^a-z]*$", re.IGNORECASE)
"""How the name of a frame goes on before its number."""

_SHORTEST = 3
"""Fewest images that look like a video without being called frames."""

_MOSTLY = 0.8
"""Part of the steps from one number to the next that are equal in a video."""


class Video(NamedTuple):
    """The frames of one video.

    Attributes:
        name: Its folder; where a folder holds several videos, with what their files begin with.
        frames: Numbers of the frames, by path, ascending.
        are_called_frames: Whether the names of the files say so.
    """

    name: str
    frames: Mapping[str, int]
    are_called_frames: bool

    @property
    def is_consecutive(self) -> bool:
        """Whether the numbers are distinct and go on in equal steps, but for a few gaps."""
        steps = np.diff(list(self.frames.values()))
        if len(self.frames) < _SHORTEST or not steps.all():
            return False
        _, often = Counter(steps.tolist()).most_common(1)[0]
        return often >= _MOSTLY * len(steps)


def videos_of(images: Iterable[str]) -> Sequence[Video]:
    """All images as frames of videos, sorted by name: those of a folder are one.

    Only where a folder has several kinds of files that are called frames, each kind is a video.
    """
    folders: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for image in images:
        below, name = posixpath.split(split_suffix(image)[0])
        match = _NUMBERED.fullmatch(name)
        before, number = (match["before"], int(match["number"])) if match else (name, 0)
        folders[below][before][image] = number
    videos = []
    for below, kinds in folders.items():
        called = [before for before in kinds if _CALLED_FRAME.search(before)]
        if len(called) > 1:
            for before, frames in kinds.items():
                own = _CALLED_FRAME.sub("", before).rstrip("_-. ") or before
                videos.append(_video(posixpath.join(below, own), frames, before in called))
        else:
            frames = {image: n for numbers in kinds.values() for image, n in numbers.items()}
            videos.append(_video(below, frames, len(called) == len(kinds)))
    return sorted(videos)


def look_like_videos(images: Iterable[str]) -> bool:
    """Whether images are several folders of consecutive numbers, but not called frames."""
    videos = videos_of(images)
    return len(videos) > 1 and all(video.is_consecutive for video in videos)


def _video(name: str, frames: Mapping[str, int], are_called_frames: bool) -> Video:
    ascending = dict(sorted(frames.items(), key=lambda frame: (frame[1], frame[0])))
    return Video(name, ascending, are_called_frames)
