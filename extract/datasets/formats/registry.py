"""The formats of datasets, as `--format` names them.

To add one, write a file in this folder, `listed.py`, with a subclass of `DatasetReader`, which says
how `auto` recognises a folder and which images it has:

    from sparc.extract.datasets.formats.reader import DatasetReader
    from sparc.extract.datasets.safe_folder import SafeFolder
    from sparc.extract.datasets.source import ImageRecord, Source
    from sparc.extract.datasets.tables.opening import open_table

    class ListedDataset(DatasetReader):
        absence = "no listed.jsonl"

        @classmethod
        def evidence(cls, folder: SafeFolder) -> str | None:
            return "listed.jsonl" if "listed.jsonl" in folder.files else None

        @classmethod
        def advice(cls, folder: SafeFolder, file: str) -> str:
            return "--format listed reads it" if file == "listed.jsonl" else ""

        def read(self, split: str) -> Source:
            file = "listed.jsonl"
            omissions = self.account.omissions(file)
            names = self.account.names(self.folder.images)
            table = open_table(self.folder.path(file), f"{self.folder}/{file}", omissions)
            records = []
            for number, (image_id, path, caption) in table.rows(("id", "path", "caption")):
                if not isinstance(image_id, str) or not isinstance(path, str):
                    omissions.add("image", "its id or path is not text", table.where(number))
                    continue
                if not isinstance(caption, str | None):
                    omissions.add("caption", "it is not text", table.where(number))
                captions = [caption] if isinstance(caption, str) else []
                records.append(ImageRecord(image_id, names.path(path), captions))
            self.account.uses(file, used=("id", "path", "caption"))
            return Source(records=records, named_in=file)

Then add a line to `FORMATS`:

    "listed": Entry("images that listed.jsonl lists", f"{_HERE}.listed:ListedDataset"),

`sparc-extract run … --format listed` reads it, `auto` recognises it, and every command opens the
images of its caches. What the reader says:

- `evidence` must not take folders of another format (`has_texts_beside` and `metadata_files` tell
  of captions that are the folder format's). Where two readers may recognise one folder, each says
  what it gives way to: `yields_to` names those that win over it, `by_names` lets all win that know
  a file of theirs, `fallback` comes last of all. `detection` lists the order: add yours.
- One bad record is one entry in `omissions`, never an error, unless rows become ambiguous: two
  different entries for one id are a `DatasetError`, which the reader raises where it can say which
  (else the base class names the id). `--strict` refuses the others.
- `names.path` gives the one file that a name stands for, however it is written, and `names.resolve`
  None where there is none; `below=("images/", "")` says where the names usually start, and counts
  nothing then.
- Labels of the dataset's own are `ImageRecord(…, labels=keys)`, their names and hierarchy
  `Source(names=…, hierarchy=…)`, outlines `Source(masks=…)`.
- `account.uses` says which columns or keys are used, and which lie there besides (`unused`). Files
  that no reader opens are listed by themselves, with what `advice` says of them.
- Further fields become columns of the cache where `--column` asks for them, and groups where
  `--holdout-by` does, with `columns=self.columns.of(fields, without=("id", "path", "caption"))` in
  the `ImageRecord`, `fields` being the record by column; `self.columns.enter(…)` takes the place
  of `account.uses` then, and `columns.parse_cells` makes numbers of texts. A reader whose images
  are nearly equal in groups sets `group`.
- A format whose images are not files of the folder also overrides `read_image`, one that is
  divided also `splits`, and `is_of_other_split` where splits are not first folders.

`--split`, `--holdout`, `--limit`, `--labels` and missing images are the base class's business.
`published/documents.py` reads JSON of any size, `published/lists.py` lists in text files,
`published/safe_xml.py` XML that is not trusted. The new format gets a line in
the table of docs/guide/own-images.md and a test on a folder made by hand.

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

WEBDATASET = "webdataset"
"""The format of shards that are named one by one."""

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
    WEBDATASET: Entry("tar shards of img2dataset", f"{_HERE}.webdataset.reader:WebDataset"),
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
