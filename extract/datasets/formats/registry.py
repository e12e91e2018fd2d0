"""The formats of datasets, as `--format` names them.

To add one, write a file in this folder with a subclass of `DatasetReader`, which says how `auto`
recognises a folder and which images it has:

    class ListedDataset(DatasetReader):
        absence = "no images.jsonl"

        @classmethod
        def evidence(cls, folder: SafeFolder) -> str | None:
            return "images.jsonl" if "images.jsonl" in folder.files else None

        def read(self, split: str) -> Source:
            lines = read_json_lines(self.folder.path("images.jsonl"), f"{self.folder}/images.jsonl")
            return Source(
                records=[
                    ImageRecord(line["id"], line["path"], captions=[line["caption"]])
                    for _, line in lines
                ]
            )

Then add a line to `FORMATS`:

    "listed": Entry("images that images.jsonl lists", f"{_HERE}.listed:ListedDataset"),

`sparc-extract run … --format listed` reads it, `auto` recognises it, and every command opens the
images of its caches. A format whose images are not files of the folder also overrides `read_image`,
one that is divided also `splits`. `--split`, `--holdout`, `--limit`, labels and missing images are
the base class's business.
Further fields of a line become columns of the cache where `--column` asks for them, and groups
where `--holdout-by` does, with
`columns=self.columns.of(line, without=("id", "path", "caption"))` in the `ImageRecord`.

Every command line reads this module: it imports no reader.
"""

from collections import ChainMap
from collections.abc import Collection

from sparc.common.registry import Entry

_HERE = "sparc.extract.datasets.formats"
_PUBLISHED = f"{_HERE}.published"

TABLE = "table"
"""The format that `--table` implies."""

CLASS_FOLDERS = "class-folders"
"""The format whose folders are classes, which `--classes` and `--hierarchy` describe."""

FORMATS: dict[str, Entry] = {
    "folder": Entry("images, with .txt or metadata files", f"{_HERE}.folder:FolderDataset"),
    CLASS_FOLDERS: Entry(
        "folders called after classes, as ImageNet's", f"{_HERE}.class_folders:ClassFolders"
    ),
    "hugging-face": Entry(
        "files of Arrow or Parquet with images", f"{_HERE}.hugging_face:HuggingFaceDataset"
    ),
    "coco": Entry("images, with COCO's annotation files", f"{_HERE}.coco.reader:CocoDataset"),
    "lvis": Entry("LVIS, with the images of COCO", f"{_HERE}.coco.reader:LvisDataset"),
    TABLE: Entry("images that a table names (--table FILE)", f"{_HERE}.table:TableDataset"),
    "open-images": Entry(
        "Open Images with Localized Narratives", f"{_HERE}.open_images.reader:OpenImagesDataset"
    ),
    "webdataset": Entry("tar shards of img2dataset", f"{_HERE}.webdataset.reader:WebDataset"),
    "frames": Entry("folders of video frames, held out by folder", f"{_HERE}.frames:FramesDataset"),
    "karpathy": Entry(
        "Karpathy's splits of COCO, Flickr8k and 30k", f"{_PUBLISHED}.karpathy:KarpathyDataset"
    ),
    "voc": Entry("Pascal VOC", f"{_PUBLISHED}.voc:VocDataset"),
    "visual-genome": Entry(
        "Visual Genome's phrases and objects", f"{_PUBLISHED}.visual_genome:VisualGenomeDataset"
    ),
    "llava": Entry("LLaVA's conversations", f"{_PUBLISHED}.conversations:ConversationsDataset"),
    "celeba": Entry("CelebA's lists of attributes", f"{_PUBLISHED}.celeba:CelebaDataset"),
    "cub": Entry("CUB's and NABirds' lists", f"{_PUBLISHED}.cub:CubDataset"),
}

AUTO = "auto"
"""Stands for the format that the files of the folder indicate."""

CHOICES: Collection[str] = ChainMap(FORMATS, {AUTO: Entry("", "")})
"""What `--format` may be: `AUTO`, and whatever is in `FORMATS` at the time."""
