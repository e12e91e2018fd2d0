"""A new format is one class and one line in the registry: here one that a test defines."""

import subprocess
import sys
import textwrap
import types
import zipfile

import pyarrow as pa
import pytest
from PIL import Image

from sparc.analyze.search.contact_sheet import contact_sheet
from sparc.analyze.search.searcher import SCHEMA
from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, DatasetError
from sparc.common.registry import Entry
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.formats import registry
from sparc.extract.datasets.formats.detection import reader_of
from sparc.extract.datasets.formats.reader import DatasetReader
from sparc.extract.datasets.formats.registry import FORMATS
from sparc.extract.datasets.images import CacheImages
from sparc.extract.datasets.source import ImageRecord, Source

COLORS = ("red", "lime", "blue")


class AlbumDataset(DatasetReader):
    """Images in `album.zip`, each named like its caption."""

    absence = "no album.zip"

    @classmethod
    def evidence(cls, folder):
        return "album.zip" if "album.zip" in folder.files else None

    def read(self, split):
        with zipfile.ZipFile(self.folder.path("album.zip")) as album:
            names = album.namelist()
        return Source(
            records=[
                ImageRecord(
                    n,
                    n,
                    captions=[n.partition(".")[0]],
                    columns=self.columns.of({"size": len(n) % 2}, without=()),
                )
                for n in names
            ]
        )

    def read_image(self, image_path):
        with zipfile.ZipFile(self.folder.path("album.zip")) as album:
            return album.read(image_path)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    entry = Entry("images in album.zip", f"{__name__}:AlbumDataset")
    monkeypatch.setitem(FORMATS, "album", entry)


@pytest.fixture
def album(tmp_path):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data/album.zip", "w") as album:
        for color in COLORS:
            with album.open(f"{color}.png", "w") as file:
                Image.new("RGB", (9, 7), color).save(file, "PNG")
    return tmp_path / "data"


@pytest.mark.parametrize("format_options", [[], ["--format", "album"]])
def test_it_goes_through_the_command_to_images_of_the_cache(
    album, tiny_streams, call, tmp_path, format_options
):
    streams = [option for option in tiny_streams if option.startswith("--stream=vit=")]
    done = call(
        "extract", "run", album, tmp_path / "cache", *format_options, *streams, "--device", "cpu"
    )
    assert done.returncode == 0, done.stderr
    cache = ActivationCache(tmp_path / "cache")
    assert cache.info.dataset_format == "album"
    assert cache.rows().column("caption").to_pylist() == list(COLORS)
    assert cache.valid("vit", 0).all()

    album.rename(tmp_path / "moved")
    images = CacheImages(cache.info, tmp_path / "moved")
    assert images.open("lime.png").getpixel((0, 0)) == (0, 255, 0)
    result = {name: [None] for name in SCHEMA.names} | {
        "rank": [1], "score": [0.5], "row": [2], "sample_id": ["blue.png"], "image": ["blue.png"],
        "own_image": [False], "latents": [[]], "names": [[]],
    }  # fmt: skip
    sheet = tmp_path / "sheet.png"
    table = pa.table(result, schema=SCHEMA)
    assert contact_sheet(table, cache, sheet, title="t", dataset=str(tmp_path / "moved")) == 0
    with Image.open(sheet) as drawn:
        assert (0, 0, 255) in {color for _, color in drawn.getcolors(1 << 16)}


def test_splits_and_holdout_need_nothing_of_the_reader(album):
    with pytest.raises(DatasetError, match="has no splits: leave --split out"):
        open_dataset(album, DatasetOptions(split="train")).manifest()
    unknown = open_dataset(album, DatasetOptions(split="train", holdout=0.5, holdout_by="color"))
    with pytest.raises(DatasetError, match="column 'color' of --holdout-by; columns: size"):
        unknown.manifest()
    sizes = set()
    for split in ("train", "test"):
        options = DatasetOptions(split=split, holdout=0.5, holdout_by="size", columns=("size",))
        (size,) = set(open_dataset(album, options).manifest().rows["size"].to_pylist())
        sizes.add(size)
    assert len(sizes) == 2


class ListedDataset(DatasetReader):
    """Files that `listed.txt` names."""

    absence = "no listed.txt"

    @classmethod
    def evidence(cls, folder):
        return "listed.txt" if "listed.txt" in folder.files else None

    def read(self, split):
        names = self.folder.path("listed.txt").read_text().split()
        return Source(records=[ImageRecord(name, name) for name in names], named_in="listed.txt")


def test_missing_images_need_nothing_of_the_reader(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, "listed", Entry("a list", f"{__name__}:ListedDataset"))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "listed.txt").write_text("a.png b.png")
    options = DatasetOptions(format="listed")
    assert open_dataset(tmp_path, options).manifest().rows.num_rows == 2
    assert "1 of 2 images named in listed.txt are not there" in capsys.readouterr().err
    (tmp_path / "listed.txt").write_text("b.png")
    with pytest.raises(DatasetError, match=r"none of the images named in listed\.txt is there"):
        open_dataset(tmp_path, options).manifest()


def test_auto_asks_it_beside_the_others(album, call, tmp_path):
    (tmp_path / "empty").mkdir()
    extract = ("run", tmp_path / "empty", tmp_path / "cache", "--stream", "a=timm:test_vit")
    refused = call("extract", *extract)
    assert "no images and no metadata (folder), " in refused.stderr
    assert ", no album.zip (album)" in refused.stderr
    (album / "captions_val.json").touch()
    refused = call("extract", "run", album, *extract[2:])
    assert refused.returncode == 2
    expected = "coco (captions_val.json), album (album.zip); choose one with --format"
    assert expected in refused.stderr


def test_a_name_that_is_not_registered_is_refused_with_the_choices(album, call, tmp_path):
    extract = ("run", album, tmp_path / "cache", "--stream", "a=timm:test_vit")
    refused = call("extract", *extract, "--format", "atlas")
    assert refused.returncode == 2
    choices = ", ".join(["auto", *FORMATS])
    assert choices.endswith(", album")
    assert f"format must be one of {choices}, not 'atlas'" in refused.stderr
    with pytest.raises(ConfigError, match=choices):
        DatasetOptions(format="atlas")
    assert ExtractConfig(preset="dinov2-clip-b", format="album").dataset_options().format == "album"


def test_the_help_lists_them():
    code = """
from sparc.common.registry import Entry
from sparc.extract.datasets.formats import registry
from sparc.extract.datasets.formats.registry import FORMATS
FORMATS["album"] = Entry("images in album.zip", "nowhere:AlbumDataset")
from sparc.extract.cli import app
app(["run", "--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = "".join(done.stdout.split())
    assert "--format<name>How" in shown  # a list of all would be wider than a terminal
    for name, entry in FORMATS.items():
        assert f"{name}: {entry.summary}".replace(" ", "") in shown


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_entry_names_a_reader(name):
    assert issubclass(reader_of(name), DatasetReader)


def test_the_reader_of_the_instructions_works(tmp_path, monkeypatch, paint, captions):
    """What the registry's docstring tells a stranger to write, as it stands there."""
    code = registry.__doc__.partition("which images it has:\n")[2].partition("Then add")[0]
    module = types.ModuleType("listed")
    exec(textwrap.dedent(code), module.__dict__)
    monkeypatch.setitem(sys.modules, "listed", module)
    monkeypatch.setitem(FORMATS, "listed", Entry("a list", "listed:ListedDataset"))
    paint(tmp_path, "pictures/A.png", "pictures/b.png", "c.png")
    lines = [
        '{"id": "1", "path": "a.png", "caption": "one"}',
        '{"id": 2, "path": "b.png"}',
        "broken",
        '{"id": "3", "path": "b.png", "caption": null}',
    ]
    (tmp_path / "listed.jsonl").write_text("\n".join(lines))
    manifest = open_dataset(tmp_path, DatasetOptions()).manifest()
    assert manifest.dataset_format == "listed"
    assert captions(manifest) == [("pictures/A.png", "one"), ("pictures/b.png", None)]
    account = manifest.account
    assert [entry.first for entry in account.left_out] == ["line 2", "line 3"]
    assert [entry.what for entry in account.unused] == ["c.png"]
