"""The thumbnails that an extraction keeps in a cache."""

import dataclasses
import hashlib
import io
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails.picture import thumbnail_of
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError, ConfigError, DamagedCacheError
from sparc.common.images.decoding import decode
from sparc.extract import job
from sparc.extract.config import ExtractConfig

CAPTIONS = [[f"caption {i} {j}" for j in range(1 + (i * 2) % 5)] for i in range(40)]
"""Runs of one to five captions: with ten rows a chunk, several runs cross a boundary."""

CHUNK = "thumbnails/00000003.parquet"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def config(fake_streams) -> ExtractConfig:
    return ExtractConfig(streams=fake_streams, rows_per_chunk=10, batch_size=4, workers=2)


@pytest.fixture
def dataset(fake_dataset):
    return fake_dataset(CAPTIONS, broken=[2], missing=[9])


@pytest.fixture
def extract(dataset, fake_encoders, config):
    """Runs the extraction, or a changed one, into a folder."""

    def run(location: Path, **changes) -> job.Summary:
        changed = dataclasses.replace(config, **changes)
        return job.run(dataset, location, changed, build=fake_encoders())

    return run


def test_every_row_has_the_picture_of_its_image(tmp_path, dataset, extract) -> None:
    summary = extract(tmp_path / "cache")
    assert set(dataset.reads.values()) == {1}, "read once, for all encoders and the thumbnail"
    cache = summary.cache
    images = cache.rows(["image"]).column("image").to_pylist()
    wanted = {
        row: thumbnail_of(decode(dataset.read_image(image)), 96)
        for row, image in enumerate(images)
        if image not in ("p2", "p9")  # broken, missing
    }
    carried = sum(images[start] == images[start - 1] for start in range(10, len(images), 10))
    assert carried > 2, "images whose rows lie in two chunks are among them"
    assert cache.thumbnails.side == 96
    assert cache.thumbnails.encoded(range(len(images))) == wanted
    assert cache.thumbnails.encoded(np.array([47, 3, 47])) == {3: wanted[3], 47: wanted[47]}
    pictures = cache.thumbnails.images([0])
    assert pictures[0].size == (8, 8)
    assert pictures[0].mode == "RGB"
    with pytest.raises(IndexError):
        cache.thumbnails.encoded([len(images)])
    # With other tools, as CACHE.md has it.
    found = duckdb.sql(
        f"SELECT thumbnail FROM '{tmp_path}/cache/thumbnails/*.parquet' WHERE row = 42"
    )
    assert found.fetchall() == [(wanted[42],)]


def test_features_are_the_same_with_and_without_thumbnails(
    tmp_path, dataset, extract, fake_encoders, config
) -> None:
    extract(tmp_path / "cache", thumbnails=0)
    without = contents(tmp_path / "cache")
    assert not (tmp_path / "cache/thumbnails").exists()
    assert ActivationCache(tmp_path / "cache").thumbnails.side == 0
    assert ActivationCache(tmp_path / "cache").thumbnails.images([0, 1]) == {}
    # A cache from before gets them from the same command; nothing is encoded again.
    dataset.reads.clear()
    encoders = fake_encoders()
    summary = job.run(dataset, tmp_path / "cache", config, build=encoders)
    assert encoders.built[0]["a"].batches == []
    assert set(dataset.reads.values()) == {1}
    assert str(summary).startswith(f"thumbnails made for {summary.cache.info.rows} rows")
    now = contents(tmp_path / "cache")
    assert {name: now[name] for name in without} == without
    extract(tmp_path / "whole")
    assert now == contents(tmp_path / "whole")
    assert list(verify(summary.cache)) == []
    assert str(extract(tmp_path / "cache")).startswith("nothing was left to do")


def test_a_job_of_text_makes_none_and_one_of_images_that_joins_it_does(
    tmp_path, dataset, extract
) -> None:
    summary = extract(tmp_path / "cache", streams=("t=transformers:t",))
    assert dataset.reads == {}
    assert "thumbnail" not in str(summary)
    assert summary.cache.thumbnails.side == 0
    extract(tmp_path / "cache", streams=("a=timm:a",))
    assert ActivationCache(tmp_path / "cache").thumbnails.encoded([0])


@pytest.mark.parametrize("repair", [False, True])
def test_a_lost_file_is_made_again(tmp_path, dataset, extract, repair) -> None:
    extract(tmp_path / "cache")
    whole = contents(tmp_path / "cache")
    for name in (CHUNK, "thumbnails/00000000.parquet"):
        (tmp_path / "cache" / name).unlink()
    cache = ActivationCache(tmp_path / "cache")
    assert cache.thumbnails.encoded([0, 33, 45]).keys() == {45}
    damage = [str(d) for d in verify(cache)]
    assert damage == [
        "thumbnails, chunk 0, rows 0 to 9: it has not been written",
        "thumbnails, chunk 3, rows 30 to 39: it has not been written",
    ]
    dataset.reads.clear()
    extract(tmp_path / "cache", repair=repair)
    assert contents(tmp_path / "cache") == whole
    assert len(dataset.reads) < len(CAPTIONS) / 2


def test_a_changed_byte_is_damage_or_means_nothing(tmp_path, extract) -> None:
    cache = extract(tmp_path / "cache").cache
    file = tmp_path / "cache" / CHUNK
    content = file.read_bytes()
    rows = range(30, 40)
    whole = cache.thumbnails.encoded(rows)
    noticed = 0
    for place in range(1, len(content), 41):
        changed = bytearray(content)
        changed[place] ^= 4
        file.write_bytes(changed)
        damage = ""
        try:
            assert ActivationCache(tmp_path / "cache").thumbnails.encoded(rows) == whole
        except DamagedCacheError as error:
            damage = str(error)
        if damage:
            noticed += 1
            assert f"{CHUNK} is damaged" in damage
            assert damage.endswith("with --repair")
    assert noticed > len(range(1, len(content), 41)) / 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "of another chunk", "of another cache"])
def test_damage_is_found_and_repaired_and_nothing_else(
    tmp_path, extract, fake_dataset, fake_encoders, config, damage
) -> None:
    cache = extract(tmp_path / "cache").cache
    whole = contents(tmp_path / "cache")
    file = tmp_path / "cache" / CHUNK
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[200] ^= 1
        file.write_bytes(content)
    elif damage == "of another chunk":
        shutil.copy(file.with_name("00000004.parquet"), file)
    else:
        other = fake_dataset([[f"other {text}" for text in texts] for texts in CAPTIONS])
        job.run(other, tmp_path / "other", config, build=fake_encoders())
        shutil.copy(tmp_path / "other" / CHUNK, file)
    with pytest.raises(DamagedCacheError, match=CHUNK):
        cache.thumbnails.encoded([35])
    assert [str(d).partition(",")[0] for d in verify(cache)] == ["thumbnails"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")}
    extract(tmp_path / "cache", repair=True)
    assert contents(tmp_path / "cache") == whole
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.parquet")}
    assert [path for path in after if after[path] != before[path]] == [file]


def test_what_is_no_thumbnail_is_not_shown(tmp_path, extract) -> None:
    """A sound table of the cache with other pictures in it, as somebody may have made."""
    cache = extract(tmp_path / "cache").cache
    file = tmp_path / "cache" / CHUNK
    table = pq.read_table(file)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "png")
    large = thumbnail_of(Image.new("RGB", (200, 100)), 200)
    for foreign, what in ((buffer.getvalue(), "WEBP"), (large, "larger than 96 pixels")):
        changed = table.set_column(1, "thumbnail", [[foreign] * len(table)])
        pq.write_table(changed.cast(table.schema), file, row_group_size=64)
        assert [what in str(d) for d in verify(cache)] == [True]
    pq.write_table(table.set_column(1, "thumbnail", [[buffer.getvalue()] * len(table)]), file)
    with pytest.raises(DamagedCacheError, match="row 33: not a picture in a known format"):
        cache.thumbnails.images([33])


def test_another_size_is_refused(tmp_path, extract) -> None:
    extract(tmp_path / "cache", thumbnails=16)
    whole = contents(tmp_path / "cache")
    with pytest.raises(CacheError, match=r"thumbnails of 16 pixels, not 96: give --thumbnails 16"):
        extract(tmp_path / "cache")
    extract(tmp_path / "cache", thumbnails=0)
    assert contents(tmp_path / "cache") == whole
    with pytest.raises(ConfigError, match="thumbnails must be 0, or from 16 to 512"):
        extract(tmp_path / "cache", thumbnails=7)


def test_a_thumbnail_is_the_image_in_its_proportions_and_without_metadata() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    exif[0x0112] = 6  # lies on its side
    buffer = io.BytesIO()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(buffer, "jpeg", exif=exif, icc_profile=profile)
    decoded = decode(buffer.getvalue())
    assert decoded.info
    thumbnail = thumbnail_of(decoded, 96)
    with Image.open(io.BytesIO(thumbnail)) as opened:
        assert opened.size == (48, 96)
        assert opened.format == "WEBP"
        assert not opened.getexif()
        assert "icc_profile" not in opened.info
    assert b"secret" not in thumbnail
    assert len(thumbnail) < 10_000
    assert thumbnail == thumbnail_of(decode(buffer.getvalue()), 96)
    assert Image.open(io.BytesIO(thumbnail_of(Image.new("RGB", (2000, 10)), 96))).size == (96, 1)
