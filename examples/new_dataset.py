"""A dataset format of your own, which SPARC then reads as it reads COCO.

    python examples/new_dataset.py

Here images.jsonl lists the images, with a caption and tags. In SPARC's own code this class is a
file in `extract/datasets/formats` and a line in its registry, whose docstring says more: how
splits, archives and masks are read, and what is said of records that are not usable.
"""

import json
import tempfile
from pathlib import Path

import torch
from torchvision.transforms import Compose, Resize, ToTensor

import sparc
from sparc.common.registry import Entry
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.registry import FORMATS
from sparc.extract.datasets.safe_folder import SafeFolder
from sparc.extract.datasets.source import ImageRecord, Source
from sparc.extract.datasets.tables.opening import open_table
from sparc.extract.encoders import ImageModel, register_encoder

LIST = "images.jsonl"


class TaggedDataset(DatasetReader):
    """Images that images.jsonl lists, with a caption and tags."""

    absence = f"no {LIST}"

    @classmethod
    def evidence(cls, folder: SafeFolder) -> str | None:
        return LIST if LIST in folder.files else None

    def read(self, split: str) -> Source:
        omissions = self.account.omissions(LIST)
        names = self.account.names(self.folder.images)
        table = open_table(self.folder.path(LIST), f"{self.folder}/{LIST}", omissions)
        records = []
        for number, (name, caption, tags) in table.rows(("name", "caption", "tags")):
            if not isinstance(name, str) or not isinstance(caption, str):
                omissions.add("image", "its name or caption is not text", table.where(number))
                continue
            records.append(ImageRecord(name, names.path(name), [caption], labels=tags))
        self.account.uses(LIST, used=("name", "caption", "tags"))
        return Source(records=records, named_in=LIST)


FORMATS["tagged"] = Entry("images with tags", f"{__name__}:TaggedDataset")

# A dataset of that format: 40 pictures of the demo, and a record that is damaged.
folder = Path(tempfile.mkdtemp())
(folder / "tagged").mkdir()
demo = sparc.ActivationCache("demo")
classes = demo.classes()["name"].to_pylist()
lines = [{"name": None, "caption": "no name", "tags": []}]
for row in demo.rows(["row", "caption", "label_ids"]).slice(0, 40).to_pylist():
    name = f"{row['row']:03}.png"
    demo.thumbnails.images([row["row"]])[row["row"]].save(folder / "tagged" / name)
    tags = [classes[label] for label in row["label_ids"]]
    lines.append({"name": name, "caption": row["caption"], "tags": tags})
(folder / "tagged" / LIST).write_text("\n".join(map(json.dumps, lines)))

prepare = Compose([Resize((8, 8)), ToTensor()])
register_encoder("pixels", lambda: ImageModel(torch.nn.Flatten(), prepare))
cache = sparc.extract(
    folder / "tagged", folder / "cache", streams={"pixels": "pixels:"}, format="tagged"
)
print(cache)
first = cache.rows().slice(0, 1).to_pylist()[0]
tags = [cache.classes()["name"][label].as_py() for label in first["label_ids"]]
print(f"{first['sample_id']}: {first['caption']} Tags: {', '.join(tags)}.")
