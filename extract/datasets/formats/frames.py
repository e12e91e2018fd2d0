"""Folders of video frames, whose videos are held out whole (`--format frames`).

    DATASET/
      video1/frame_0001.jpg    a folder a video; or video1_frame_0001.jpg in one folder
      video1.txt               captions of all its frames, one a line; optional
      running/video2/…         the folder that holds videos is their class, where there are several
      videos.csv               video,text,label — or .tsv, .json, .jsonl, .parquet; optional

Any table of the dataset counts in which a column names the videos: by folder, by the folder's last
part, or as a file such as `video1.mp4`. Its columns of captions and labels, by their usual names
(`text`, `caption`, …; `label`, `class`, …), hold for all frames of a video, and others may become
columns of the cache (`--column`), as may `video` and `frame`, the number. First folders named like
splits are splits.

`auto` takes a folder for this format if all its images are called frames (`frame_0001.jpg`,
`clip-frame12.png`) and there are several videos. `--holdout` never divides a video; `--holdout-by`
keeps several together that have one value in the table.
"""

import posixpath
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

from sparc.common.errors import DatasetError
from sparc.common.text import amount, shorten
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.video_table import VideoTable
from sparc.extract.datasets.formats.videos import videos_of
from sparc.extract.datasets.metadata import decode
from sparc.extract.datasets.safe_folder import LARGEST_TEXT, SafeFolder, split_suffix
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.splits import split_folders
from sparc.extract.datasets.tables.finding import metadata_files
from sparc.extract.datasets.tables.sidecars import has_texts_beside


class FramesDataset(DatasetReader):
    """Frames of videos; see the module."""

    absence = "no folders of frame_0001.jpg"
    by_names = True

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        """A frame, if all images are called so and there are several videos.

        Captions beside the frames, or metadata that do not name the videos, are another format's.
        """
        videos = videos_of(folder.images)
        if len(videos) < 2 or not all(video.are_called_frames for video in videos):
            return None
        if has_texts_beside(folder):
            return None
        is_other = metadata_files(folder) and not VideoTable.find(folder, videos)
        return None if is_other else folder.images[0]

    def splits(self) -> Collection[str]:
        """First folders that are named like splits, if all images are in such."""
        return split_folders(self.folder.images)

    def read(self, split: str) -> Source:
        """The frames, by video and number."""
        prefix = f"{split}/" if split else ""
        videos = [video for video in videos_of(self.folder.images) if video.name.startswith(prefix)]
        if not videos:
            raise DatasetError(f"{self.folder} has no images")
        holders = {posixpath.dirname(video.name.removeprefix(prefix)) for video in videos}
        table = VideoTable.find(self.folder, videos_of(self.folder.images))
        if not table and len(holders) < 2:
            folders = [posixpath.basename(video.name) for video in videos]
            shown = shorten(", ".join(folders), 60)
            what = f"names of {amount(len(folders), 'folder')} as classes ({shown})"
            self.account.passes_over(what, "--format class-folders, if they are no videos")
        if table:
            table.enter(self.folder, self.account, self.columns)
        records: list[ImageRecord] = []
        for video in videos:
            captions = list(self._captions_beside(video.name))
            holder = posixpath.basename(posixpath.dirname(video.name))
            labels = [holder] if len(holders) > 1 and holder else []
            fields: Mapping[str, Any] = {}
            if table:
                captions = [*table.texts(video.name, table.captions), *captions]
                labels = table.texts(video.name, table.labels) or labels
                fields = table.further(video.name)
            group = fields.get(self.options.holdout_by)
            for image, number in video.frames.items():
                records.append(
                    ImageRecord(
                        split_suffix(image)[0],
                        image,
                        captions=captions,
                        labels=labels,
                        group=video.name if group in (None, "") else str(group),
                        columns=self.columns.of(
                            {**fields, "video": video.name, "frame": number}, without=()
                        ),
                    )
                )
        return Source(records=records)

    def _captions_beside(self, video: str) -> Iterator[str]:
        """The lines of a text file beside a video's folder that has its name."""
        if f"{video}.txt" in self._texts_beside:
            text, _ = decode(self.folder.read(f"{video}.txt", largest=LARGEST_TEXT))
            yield from text.splitlines()

    @cached_property
    def _texts_beside(self) -> frozenset[str]:
        return frozenset(file for file in self.folder.files if file.endswith(".txt"))
