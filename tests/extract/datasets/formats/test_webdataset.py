import gzip
import io
import json
import re
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


@pytest.fixture
def shard(tmp_path):
    """Writes a tar file of these members."""

    def write(name, members, **how):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w", **how) as archive:
            for member, content in members.items():
                content = content.encode() if isinstance(content, str) else content
                header = tarfile.TarInfo(member)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
        return path

    return write


def test_shards_of_img2dataset(tmp_path, shard, manifest, captions):
    (tmp_path / "00000.parquet").write_bytes(b"not read")
    (tmp_path / "00000_stats.json").write_text("{}")
    shard("00001.tar", {"000010000.png": b"three", "000010000.txt": ""})
    shard(
        "00000.tar",
        {
            "000000000.jpg": b"one",
            "000000000.json": json.dumps({"caption": "of json", "key": "000000000"}),
            "000000000.txt": "of text\nin one caption",
            "000000001.webp": b"two",
            "000000001.json": json.dumps({"caption": ["first", "second"]}),
            "000000002.txt": "no image",
            "000000003.jpg": b"bare",
            "000000003.json": json.dumps({"caption": None}),
            "000000004.jpg": b"empty",
            "000000004.txt": " ",
            "000000004.json": json.dumps({"caption": "instead"}),
        },
    )
    result = manifest()
    assert result.dataset_format == "webdataset"
    assert captions(result) == [
        ("00000.tar/000000000.jpg", "of text\nin one caption"),
        ("00000.tar/000000001.webp", "first"),
        ("00000.tar/000000001.webp", "second"),
        ("00000.tar/000000003.jpg", None),
        ("00000.tar/000000004.jpg", "instead"),
        ("00001.tar/000010000.png", None),
    ]
    assert result.rows["sample_id"][0].as_py() == "000000000"
    opened = open_dataset(tmp_path, DatasetOptions())
    assert opened.read_image("00001.tar/000010000.png") == b"three"  # without a manifest before
    assert opened.read_image("00000.tar/000000003.jpg") == b"bare"


def test_keys_that_repeat_between_shards(shard, manifest):
    shard("a.tar", {"x/0.jpg": b"1", "x/0.seg.png": b"1b"})
    shard("b.tar", {"./x/0.jpg": b"2", "x/0.txt": "caption"})
    rows = manifest().rows
    assert rows["sample_id"].to_pylist() == ["a/x/0", "b/x/0"]
    assert rows["image"].to_pylist() == ["a.tar/x/0.jpg", "b.tar/x/0.jpg"]
    assert rows["caption"].to_pylist() == [None, "caption"]


def test_subfolders_are_splits(shard, manifest, captions):
    shard("train/0.tar", {"a.jpg": b"1"})
    shard("test/0.tar", {"b.jpg": b"2"})
    assert captions(manifest(split="test")) == [("test/0.tar/b.jpg", None)]
    with pytest.raises(DatasetError, match="--split: test, train"):
        manifest()


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_images_are_read_by_many_threads(tmp_path, shard, kind):
    long = "deep/" * 40
    contents = {f"{long}{n:04}.png": bytes([n % 256]) * (n + 1) for n in range(200)}
    shard("0.tar", dict(list(contents.items())[:100]), format=kind)
    shard("1.tar", dict(list(contents.items())[100:]), format=kind)
    opened = open_dataset(tmp_path, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(opened.read_image, images))
    assert read == list(contents.values())


def test_members_that_are_no_regular_files_are_none(tmp_path, shard):
    path = shard("0.tar", {"a.jpg": b"1", "../up.jpg": b"2", "/abs.jpg": b"3"})
    with tarfile.open(path, "a") as archive:
        for name, kind in (("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("d", tarfile.CHRTYPE)):
            header = tarfile.TarInfo(f"{name}.jpg")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    opened = open_dataset(tmp_path, DatasetOptions())
    images = opened.manifest().rows["image"].to_pylist()
    assert images == ["0.tar/a.jpg"]
    assert opened.read_image("0.tar/a.jpg") == b"1"
    for image in (
        "0.tar/../up.jpg",
        "0.tar//abs.jpg",
        "0.tar/l.jpg",
        "../0.tar/a.jpg",
        "a.jpg",
        "none.tar/a.jpg",
    ):
        with pytest.raises(DatasetError):
            opened.read_image(image)


def test_a_shard_that_is_a_link_outside_is_not_read(tmp_path, shard, manifest):
    shard("good.tar", {"a.jpg": b"1"})
    (tmp_path / "bad.tar").symlink_to("/dev/zero")
    assert manifest().rows.num_rows == 1
    with pytest.raises(DatasetError, match="leaves the dataset's folder"):
        open_dataset(tmp_path, DatasetOptions()).read_image("bad.tar/a.jpg")


def test_a_damaged_shard_gives_the_samples_before_the_damage(tmp_path, shard, manifest, captions):
    path = shard("00000.tar", {f"{n}.jpg": bytes([n]) * 3000 for n in range(10)})
    shard("00001.tar", {"good.jpg": b"1"})
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[3584 + 2 : 3584 + 90] = b"?" * 88  # the second header
    for content, kept, message in (
        (whole[:8000], 2, "it is cut off at byte 8,000, in the member 2.jpg"),
        (whole[:7300], 2, "it is cut off at byte 7,300"),
        (bytes(damaged), 1, "it is damaged at byte 3,584: bad checksum"),
        (b"", 0, "it is empty"),
        (b"no tar at all" * 100, 0, "it is damaged at byte 0: "),
        (bytes(10240), 0, "it has no image"),
        (b"PK\x03\x04" + bytes(600), 0, "it is a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", 0, "run git lfs pull|with git lfs pull"),
    ):
        path.write_bytes(content)
        result = manifest()
        images = [f"00000.tar/{n}.jpg" for n in range(kept)] + ["00001.tar/good.jpg"]
        assert captions(result) == [(image, None) for image in images]
        (left_out,) = result.account.left_out
        assert (left_out.file, left_out.what) == ("00000.tar", "shard")
        assert re.search(message, left_out.why)
        assert [used.files for used in result.account.used] == [2 if kept else 1]
        with pytest.raises(DatasetError, match=r"00000\.tar: 1 shard left out: .*without --strict"):
            manifest(strict=True)
    (tmp_path / "00001.tar").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"none of 2 shards can be read: 00000\.tar: it is a po"):
        manifest()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("0.tar.gz", "gunzip {}/0.tar.gz"),
        ("0.tgz", "gunzip {}/0.tgz"),
        ("0.tar", "mv {0}/0.tar {0}/0.tar.gz && gunzip {0}/0.tar.gz"),
    ],
)
def test_a_compressed_shard_is_refused_with_a_command_that_works(
    tmp_path, shard, manifest, captions, name, command
):
    path = shard("x.tar", {"a.jpg": b"1", "a.txt": "caption"})
    (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    command = command.format(tmp_path)
    with pytest.raises(DatasetError, match=f"it is compressed with gzip.* with {command}$"):
        manifest()
    subprocess.run(command, shell=True, check=True)
    assert captions(manifest()) == [("0.tar/a.jpg", "caption")]


def test_one_bad_text_is_one_sample_without_it(shard, manifest, captions, labels, capsys):
    nan = float("nan")
    texts = {
        "a.txt": b"caf\xe9",
        "b.txt": b"\xef\xbb\xbfwith a mark",
        "c.json": "{",
        "d.json": "[]",
        "e.json": json.dumps({"caption": nan, "label": True}),
        "f.json": json.dumps({"caption": ["one", None, 5, "two"], "label": [1, "x", None]}),
        "g.json": json.dumps({"caption": None, "label": nan}),
        "h.json": json.dumps({"caption": {"en": "x"}, "label": 3.0}),
        "i.json": "[" * 100_000,
    }
    images = {f"{name[0]}.jpg": b"1" for name in texts}
    shard("0.tar", images | texts)
    result = manifest()
    assert captions(result) == [
        ("0.tar/a.jpg", "caf\ufffd"),
        ("0.tar/b.jpg", "with a mark"),
        *[(f"0.tar/{key}.jpg", None) for key in "cde"],
        *[("0.tar/f.jpg", text) for text in ("one", "two")],
        *[(f"0.tar/{key}.jpg", None) for key in "ghi"],
    ]
    assert "replaced in 1 text" in capsys.readouterr().err
    assert {k: v for k, v in labels(result).items() if v} == {"f": ["1", "x"], "h": ["3"]}
    left_out = {(entry.what, entry.why): entry.records for entry in result.account.left_out}
    assert left_out == {
        ("JSON document", "it is no JSON"): 2,
        ("JSON document", "it is no object"): 1,
        ("caption", "it is NaN, not text"): 1,
        ("caption", "it is null, not text"): 1,
        ("caption", "it is an object, not text"): 1,
        ("label", "it is true or false, neither text nor a whole number"): 1,
        ("label", "it is null, neither text nor a whole number"): 1,
        ("label", "it is NaN, neither text nor a whole number"): 1,
    }
    with pytest.raises(DatasetError, match=r"0\.tar: .*\(.*c\.json.*without --strict"):
        manifest(strict=True)


def used(result) -> tuple[list[str], list[str]]:
    (files,) = result.account.used
    return list(files.used), list(files.unused)


@pytest.mark.parametrize("key", ["caption", "TEXT", "Alt", "title", "prompt", "captions"])
def test_captions_under_any_usual_key_of_json(shard, manifest, captions, key):
    shard("0.tar", {"a.jpg": b"1", "a.json": json.dumps({"url": "u", key: ["one", "two"]})})
    result = manifest()
    assert captions(result) == [("0.tar/a.jpg", "one"), ("0.tar/a.jpg", "two")]
    assert used(result) == ([".jpg", f".json {key}"], [".json url"])


def test_the_first_caption_that_is_not_blank_counts_and_the_others_are_named(
    shard, manifest, captions
):
    many = json.dumps({"text": "of text", "caption": " ", "Title": "of title"})
    shard(
        "0.tar",
        {
            "a.JPG": b"1", "a.TXT": "", "a.json": many,
            "b.jpg": b"1", "b.cap": "of cap", "b.caption": "of caption",
            "c.jpg": b"1", "c.jpg.txt": "of the image's whole name",
            "d.jpg": b"1", "d.caption.txt": "of a longer name", "d.npy": b"x",
        },
    )  # fmt: skip
    result = manifest()
    assert [caption for _, caption in captions(result)] == [
        "of text", "of caption", "of the image's whole name", "of a longer name",
    ]  # fmt: skip
    assert used(result) == (
        [".jpg", ".json text", ".caption", ".txt", ".caption.txt"],
        [".json caption", ".json Title", ".cap", ".npy"],
    )


def test_labels_and_names_of_classes(tmp_path, shard, manifest, labels):
    shard(
        "0.tar",
        {
            "a.jpg": b"1", "a.cls": "2", "b.jpg": b"1", "b.cls.txt": "0\n", "b.txt": "caption",
            "c.jpg": b"1", "c.txt": "caption", "c.json": '{"Label": [2, 0]}', "d.jpg": b"1",
        },
    )  # fmt: skip
    assert labels(manifest()) == {"a": ["2"], "b": ["0"], "c": ["0", "2"], "d": []}
    (tmp_path / "classnames.txt").write_text("cat\ndog\nsofa\n")
    result = manifest()
    assert labels(result) == {"a": ["sofa"], "b": ["cat"], "c": ["cat", "sofa"], "d": []}
    assert result.classes["key"].to_pylist() == ["0", "2"]
    assert [files.what for files in result.account.used] == ["0.tar", "classnames.txt"]
    for content in ('["cat", "dog", "sofa"]', '{"cat": 0, "sofa": 2}', '{"0": "cat", "2": "sofa"}'):
        (tmp_path / "classnames.txt").unlink(missing_ok=True)
        (tmp_path / "classes.json").write_text(content)
        assert labels(manifest())["c"] == ["cat", "sofa"]
    (tmp_path / "classes.json").write_text('["too few"]')
    result = manifest()
    assert labels(result)["a"] == ["2"]
    assert [files.what for files in result.account.unused] == ["classes.json"]


def test_dots_in_names_and_several_images_in_a_sample(shard, manifest, captions):
    """Never an image with the caption of another one."""
    shard(
        "0.tar",
        {
            "clip.000.jpg": b"1", "clip.000.txt": "first", "clip.001.jpg": b"2",
            "clip.001.txt": "second", "clip.002.txt": "its image is lost",
            "lost.000.jpg": b"3", "lost.001.txt": "its image is lost too",
            "pair.left.jpg": b"4", "pair.right.jpg": b"5", "pair.txt": "both",
            "x.v1/map.jpg": b"6", "x.v1/map.seg.png": b"7", "x.v1/map.png": b"8",
            "x.v1/map.json": '{"caption": "the image"}',
        },
    )  # fmt: skip
    result = manifest()
    assert captions(result) == [
        ("0.tar/clip.000.jpg", "first"),
        ("0.tar/clip.001.jpg", "second"),
        ("0.tar/lost.000.jpg", None),
        ("0.tar/pair.left.jpg", "both"),
        ("0.tar/pair.right.jpg", "both"),
        ("0.tar/x.v1/map.jpg", "the image"),
    ]
    assert result.rows["sample_id"].to_pylist() == [
        "clip.000", "clip.001", "lost", "pair.left", "pair.right", "x.v1/map",
    ]  # fmt: skip
    assert used(result)[1] == [".002.txt", ".001.txt", ".seg.png", ".png"]


def test_images_of_a_sample_are_held_out_together(shard, manifest):
    sides = ("left", "right")
    shard("0.tar", {f"{n}.{side}.jpg": b"1" for n in range(40) for side in sides})
    held_out = manifest(holdout=0.3, split="test").rows["sample_id"].to_pylist()
    keys = {name.partition(".")[0] for name in held_out}
    assert 2 <= len(keys) < 40
    assert set(held_out) == {f"{key}.{side}" for key in keys for side in sides}


def test_names_not_in_utf8_stay_different(tmp_path, shard, capsys):
    names = ("\xe4", "\xf6")
    members = {f"{n}{end}": n for n in names for end in (".jpg", ".txt")}
    shard("0.tar", members, format=tarfile.GNU_FORMAT, encoding="latin-1")
    opened = open_dataset(tmp_path, DatasetOptions())
    rows = opened.manifest().rows
    assert rows["sample_id"].to_pylist() == ["\\xe4", "\\xf6"]
    assert rows["caption"].to_pylist() == list(names)
    assert opened.read_image("0.tar/\\xf6.jpg") == "\xf6".encode()
    assert "4 names of members not in UTF-8" in capsys.readouterr().err


def test_what_systems_leave_in_archives_is_no_data(shard, manifest, captions):
    members = {"./._a.jpg": b"x", "a.jpg": b"1", "__MACOSX/a.jpg": b"x", ".git/b.jpg": b"x"}
    shard("0.tar", members)
    result = manifest()
    assert captions(result) == [("0.tar/a.jpg", None)]
    assert [files.what for files in result.account.unused] == ["hidden files"]


def test_members_that_repeat_and_samples_without_image_are_listed(shard, manifest, captions):
    path = shard("0.tar", {"a.jpg": b"1", "b.heic": b"x", "b.txt": "no image"})
    with tarfile.open(path, "a") as archive:
        header = tarfile.TarInfo("a.jpg")
        header.size = 1
        archive.addfile(header, io.BytesIO(b"2"))
    result = manifest()
    assert captions(result) == [("0.tar/a.jpg", None)]
    assert [(entry.why, entry.first) for entry in result.account.left_out] == [
        ("another one before it has its name", "a.jpg"),
        ("it has no image that can be read", "b"),
    ]
    assert used(result)[1] == [".heic", ".txt"]


def test_shards_in_numbered_folders_are_one_dataset(shard, manifest, captions):
    for number in range(3):
        shard(f"{number}/{number}00.tar", {f"{number}.jpg": b"1"})
    assert [image for image, _ in captions(manifest())] == [f"{n}/{n}00.tar/{n}.jpg" for n in "012"]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("data/train/0.tar", "data/val/0.tar"),
        ("cc3m-train-0000.tar", "cc3m-val-0000.tar"),
        ("shards/x_train.0.tar", "shards/x_val.0.tar"),
    ],
)
def test_splits_in_folders_and_names(tmp_path, shard, manifest, captions, train, val):
    for name in (train, val):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shard(name, {"a.jpg": b"1"})
    result = manifest(split="validation")
    assert captions(result) == [(f"{val}/a.jpg", None)]
    assert [(f.what, f.advice) for f in result.account.unused] == [
        (train, "--split chooses another")
    ]
    with pytest.raises(DatasetError, match="--split: train, val"):
        manifest()


def test_a_few_images_beside_shards_are_said_and_many_are_the_dataset(
    tmp_path, paint, shard, manifest
):
    shard("0.tar", {f"{n}.jpg": b"1" for n in range(3)})
    paint(tmp_path, "preview.png")
    result = manifest()
    assert (result.dataset_format, result.rows.num_rows) == ("webdataset", 3)
    assert [files.what for files in result.account.unused] == ["preview.png"]
    paint(tmp_path, "0/0.jpg", "0/1.jpg", "0/2.jpg")
    result = manifest()
    assert (result.dataset_format, result.rows.num_rows) == ("folder", 4)
    assert [(f.what, f.advice) for f in result.account.unused] == [
        ("0.tar", "--format webdataset reads it")
    ]


def test_captions_of_the_parquet_beside_a_shard_without_any(tmp_path, shard, manifest, captions):
    columns = {"key": ["a", "b", "x"], "TEXT": ["one", None, "three"], "url": ["u"] * 3}
    for name in ("0", "1"):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    shard("0.tar", {"a.jpg": b"1", "b.jpg": b"1"})
    shard("1.tar", {"c.jpg": b"1", "c.txt": "its own"})
    result = manifest()
    assert [caption for _, caption in captions(result)] == ["one", None, "its own"]
    beside = next(files for files in result.account.used if files.what == "0.parquet")
    assert (beside.used, beside.unused) == (("key", "TEXT"), ("url",))
    assert [files.what for files in result.account.unused] == ["1.parquet"]
    (tmp_path / "0.parquet").write_bytes(b"broken")
    result = manifest()
    assert [caption for _, caption in captions(result)] == [None, None, "its own"]
    assert result.account.left_out[0].why == "it is not readable as Parquet"


def test_shards_without_images(shard, manifest):
    shard("0.tar", {"a.txt": "x"})
    with pytest.raises(DatasetError, match=r"0\.tar: it has no image"):
        manifest()


def test_a_header_that_claims_to_be_huge_is_not_read(tmp_path, shard, manifest):
    """A sparse shard with a pax header of a terabyte: whoever reads it is out of memory."""
    good = shard("0.tar", {"a.png": b"x"}).read_bytes()
    header = tarfile.TarInfo("pax")
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        header.type, header.size = kind, 1 << 40
        path = tmp_path / "0.tar"
        path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + good)
        with path.open("r+b") as file:
            file.truncate((1 << 40) + len(good) + 512)
        with pytest.raises(
            DatasetError, match=r"no shard can be read: 0.tar: .* a header has 1.1 TB"
        ):
            manifest()


def test_an_image_that_claims_to_be_huge_is_not_read(tmp_path, shard, manifest):
    path = shard("0.tar", {"a.png": b"x"})
    header = tarfile.TarInfo("b.png")
    header.size = 1 << 40
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1536 + (1 << 40) + 1024)
    dataset = open_dataset(tmp_path, DatasetOptions())
    assert dataset.manifest().rows["image"].to_pylist() == ["0.tar/a.png", "0.tar/b.png"]
    assert dataset.read_image("0.tar/a.png") == b"x"
    with pytest.raises(DatasetError, match=r"b.png has 1.1 TB, more than 1.1 GB"):
        dataset.read_image("0.tar/b.png")


def test_folders_and_tables_within_shards_are_named_with_the_way(tmp_path, shard, manifest, labels):
    path = shard("0.tar", {f"{c}/{n}.jpg": b"1" for c in ("cat", "dog") for n in (0, 1)})
    (unused,) = manifest().account.unused
    assert unused.what == "names of 2 folders within shards (cat, dog)"
    assert f"mkdir DATA && tar -xf {path} -C DATA" in unused.advice
    shard("0.tar", {"a.jpg": b"1", "a.label": "cat", "b.jpg": b"1", "all.csv": "file_name,text"})
    result = manifest()
    assert labels(result) == {"a": ["cat"], "b": []}
    assert "tables within shards are read after mkdir DATA" in result.account.used[0].advice


def test_shards_called_after_synsets_are_named_with_the_way(shard, manifest, captions):
    for name in ("n01440764", "n01443537"):
        shard(f"{name}.tar", {f"{name}_1.jpg": b"1"})
    (unused,) = manifest().account.unused
    assert unused.what == "names of 2 shards (n01440764, n01443537)"
    assert "makes folders of them" in unused.advice


def test_a_list_in_json_that_is_written_as_text_is_several_captions(shard, manifest, captions):
    shard("0.tar", {"a.jpg": b"1", "a.json": json.dumps({"captions": '["one", "two"]'})})
    assert [caption for _, caption in captions(manifest())] == ["one", "two"]
