"""Whatever a cache has lost, or is damaged, is made again, and nothing else is touched."""

import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import check_metadata, verify
from sparc.common.errors import CacheError, DamagedCacheError, IncompleteCacheError
from sparc.extract import job
from sparc.extract.config import ExtractConfig

CAPTIONS = [
    [None] if i % 7 == 3 else [f"image {i} caption {j}" + "x" * (i % 9) for j in range(1 + i % 4)]
    for i in range(19)
]
"""With ten rows a chunk, runs of captions cross boundaries, and some captions are cut."""

ZARR = "activations.zarr"


def delete(path: Path) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 4
    path.write_bytes(content)


def fingerprints(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, str]:
    return {name: digest for name, (digest, _) in fingerprints(folder).items()}


@dataclasses.dataclass
class Extraction:
    """An extraction that has been done once, to be done again on damaged copies."""

    dataset: object
    build: Callable
    config: ExtractConfig
    whole: Path

    def copy(self, location: Path) -> Path:
        shutil.copytree(self.whole, location)
        return location

    def run(self, location: Path, **settings) -> job.Summary:
        config = dataclasses.replace(self.config, **settings)
        return job.run(self.dataset, location, config, build=self.build)


@pytest.fixture
def extraction(tmp_path, fake_dataset, fake_encoders, fake_streams) -> Extraction:
    dataset = fake_dataset(CAPTIONS, broken=[2], missing=[9])
    config = ExtractConfig(streams=fake_streams, rows_per_chunk=10, batch_size=4, workers=2)
    result = Extraction(dataset, fake_encoders(), config, tmp_path / "whole")
    result.run(result.whole)
    dataset.reads.clear()
    return result


@pytest.mark.parametrize("damage", [delete, truncate, empty, flip])
def test_only_what_is_damaged_is_made_again(extraction, tmp_path, damage) -> None:
    """Several files at once, a stream each, and the tables; everything else keeps its bytes."""
    damaged = (
        f"{ZARR}/a/features/c/1/0",
        f"{ZARR}/b/valid/c/2",
        f"{ZARR}/t/features/c/0/0",
        f"{ZARR}/t/valid/zarr.json",
        f"{ZARR}/a/zarr.json",
        f"{ZARR}/b/features/zarr.json",
        "rows.parquet",
        "classes.parquet",
    )
    location = extraction.copy(tmp_path / "damaged")
    for name in damaged:
        damage(location / name)
    before = fingerprints(location)
    assert list(verify(ActivationCache(location)))
    summary = extraction.run(location, repair=True)
    after = fingerprints(location)
    assert contents(location) == contents(extraction.whole)
    # A chunk is its features and its flags; what is recorded of it is gathered again.
    made = {*damaged, f"{ZARR}/a/valid/c/1", f"{ZARR}/b/features/c/2/0", f"{ZARR}/t/valid/c/0"}
    made |= {"rejects.parquet", *(f"{ZARR}/{stream}/valid/zarr.json" for stream in "abt")}
    touched = {name for name in after if before.get(name) != after[name]}
    assert touched <= made
    assert summary.encoded_rows == 30
    assert list(verify(summary.cache)) == []


def test_what_is_missing_or_cut_off_is_made_without_being_asked(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "damaged")
    truncate(location / f"{ZARR}/a/features/c/1/0")
    empty(location / f"{ZARR}/b/valid/c/2")
    delete(location / f"{ZARR}/t")
    delete(location / f"{ZARR}/zarr.json")
    delete(location / "rows.parquet")
    with pytest.raises(IncompleteCacheError, match=r"stream a lacks 1 of \d chunks \(1\)"):
        ActivationCache(location).require_complete(["a"])
    extraction.run(location)
    assert contents(location) == contents(extraction.whole)


def test_a_reader_names_the_command_that_repairs(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "damaged")
    flip(location / f"{ZARR}/a/features/c/1/0")
    flip(location / "rows.parquet")
    cache = ActivationCache(location)
    command = f"`sparc-extract run fake {location}` again with --repair"
    for read in (lambda: cache.features("a", 1), cache.rows):
        with pytest.raises(DamagedCacheError) as error:
            read()
        assert str(error.value).endswith(command)
    with pytest.raises(DamagedCacheError, match=r"chunk 1 of a/features \(rows 10 to 19\)"):
        cache.features("a", 1)


@pytest.mark.parametrize("damage", [delete, truncate, flip])
@pytest.mark.parametrize("name", ["cache.json", f"{ZARR}/zarr.json"])
def test_what_the_cache_is_stands_in_two_places(extraction, tmp_path, name, damage) -> None:
    location = extraction.copy(tmp_path / "damaged")
    damage(location / name)
    extraction.run(location, repair=True)
    assert contents(location) == contents(extraction.whole)


def test_a_value_that_was_changed_is_set_right_by_what_the_dataset_says(
    extraction, tmp_path
) -> None:
    for number, change in enumerate(('"rows": ', '"split": "', '"manifest_digest": "')):
        location = extraction.copy(tmp_path / str(number))
        path = location / "cache.json"
        path.write_text(path.read_text().replace(change, f"{change}1"))
        extraction.run(location, repair=True)
        assert contents(location) == contents(extraction.whole)


def test_both_places_lost_is_refused(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "cache")
    truncate(location / "cache.json")
    delete(location / f"{ZARR}/zarr.json")
    with pytest.raises(CacheError, match=r"neither cache.json nor .* extract into another"):
        extraction.run(location, repair=True)
    location = extraction.copy(tmp_path / "stream")
    for name in ("a/zarr.json", "a/features/zarr.json"):
        empty(location / ZARR / name)
    with pytest.raises(CacheError, match=r"nothing says any more .* stream a; remove .*zarr/a "):
        extraction.run(location, repair=True)
    delete(location / ZARR / "a")
    extraction.run(location, repair=True)
    assert contents(location) == contents(extraction.whole)


@pytest.mark.parametrize(("damage", "settings"), [(delete, {}), (truncate, {"repair": True})])
def test_lost_reasons_are_found_again_without_encoding(
    extraction, tmp_path, damage, settings
) -> None:
    location = extraction.copy(tmp_path / "damaged")
    damage(location / "rejects.parquet")
    before = fingerprints(location)
    summary = extraction.run(location, **settings)
    assert summary.encoded_rows == 0
    assert contents(location) == contents(extraction.whole)
    after = fingerprints(location)
    assert {n for n in after if before.get(n) != after[n]} == {"rejects.parquet"}
    # Only the images that had been rejected were looked at.
    assert set(extraction.dataset.reads) == {"p2", "p9"}


def test_a_chunk_is_encoded_again_where_the_dataset_gives_no_reason(extraction, tmp_path) -> None:
    encode = extraction.build

    def build(specs, device):
        built = encode(specs, device)
        plain = built["b"].encode

        def with_a_fault(pixels):
            features = plain(pixels)
            features[0] = 0
            return features

        built["b"].encode = with_a_fault
        return built

    extraction.build = build
    whole = tmp_path / "with faults"
    extraction.run(whole)
    location = tmp_path / "damaged"
    shutil.copytree(whole, location)
    delete(location / "rejects.parquet")
    extraction.run(location)
    assert contents(location) == contents(whole)
    assert contents(location) != contents(extraction.whole)


def test_a_row_that_turns_out_well_this_time_is_no_longer_rejected(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "damaged")
    extraction.dataset.missing.clear()
    row = next(
        r["row"]
        for r in pq.read_table(location / "rejects.parquet").to_pylist()
        if r["reason"] == "no such file"
    )
    for stream in ("a", "b"):
        flip(location / f"{ZARR}/{stream}/features/c/{row // 10}/0")
    summary = extraction.run(location, repair=True)
    assert "no such file" not in summary.cache.rejects()["reason"].to_pylist()
    assert list(verify(summary.cache)) == []


def test_captions_that_were_cut_are_counted_over_all_runs(extraction, tmp_path) -> None:
    texts = [text for texts in CAPTIONS for text in texts if text]
    cut = sum(len(text) > 20 for text in texts)
    assert ActivationCache(extraction.whole).cut("t") == cut
    location = extraction.copy(tmp_path / "resumed")
    delete(location / f"{ZARR}/t/features/c/1/0")
    assert extraction.run(location).cut == {"t": cut}
    # Counts that are lost are counted again.
    path = location / f"{ZARR}/t/valid/zarr.json"
    document = json.loads(path.read_text())
    document["attributes"] = {}
    path.write_text(json.dumps(document))
    assert extraction.run(location).cut == {"t": cut}
    assert contents(location) == contents(extraction.whole)


@pytest.mark.parametrize("repair", [True, False])
def test_no_flipped_byte_of_what_is_recorded_of_chunks_goes_unnoticed(
    extraction, tmp_path, repair
) -> None:
    """A digit or a key of a record makes another record, or none, that looks as sound."""
    location = extraction.copy(tmp_path / "damaged")
    path = location / f"{ZARR}/t/valid/zarr.json"
    sound = path.read_bytes()
    begin, cut = sound.index(b'"attributes"'), ActivationCache(location).cut("t")
    generator = random.Random(0)
    for place in generator.sample(range(begin, len(sound)), 100):
        byte = generator.choice([*b'7 ":,', sound[place] ^ 1])
        damaged = bytes([*sound[:place], byte, *sound[place + 1 :]])
        path.write_bytes(damaged)
        if not list(check_metadata(ActivationCache(location), "t")):
            assert json.loads(damaged)["attributes"] == json.loads(sound)["attributes"]
            assert ActivationCache(location).cut("t") == cut
    path.write_bytes(sound.replace(b'"captions_cut"', b'"captions_cuu"'))
    with pytest.raises(DamagedCacheError, match=r"valid has damaged records: .* with --repair$"):
        ActivationCache(location).features("t", 0)
    assert extraction.run(location, repair=repair).cut == {"t": cut}
    assert contents(location) == contents(extraction.whole)


@pytest.mark.parametrize("lacking", [["sha256"], ["sha256", "crc32c"]])
def test_caches_whose_records_have_no_digest_are_read_and_go_on(
    extraction, tmp_path, lacking
) -> None:
    location = extraction.copy(tmp_path / "early")
    for stream in "abt":
        path = location / f"{ZARR}/{stream}/valid/zarr.json"
        document = json.loads(path.read_text())
        for name in lacking:
            del document["attributes"][name]
        path.write_text(json.dumps(document))
    cache = ActivationCache(location)
    assert list(verify(cache)) == []
    assert cache.cut("t") == ActivationCache(extraction.whole).cut("t")
    extraction.run(location)
    assert contents(location) == contents(extraction.whole)


def test_a_flipped_digest_of_the_rows_is_found_without_the_copy_of_cache_json(
    extraction, tmp_path
) -> None:
    location = extraction.copy(tmp_path / "damaged")
    delete(location / f"{ZARR}/zarr.json")
    path = location / "cache.json"
    path.write_text(path.read_text().replace('"manifest_digest": "', '"manifest_digest": "0')[:-1])
    places = [damage.where for damage in verify(ActivationCache(location))]
    assert places[:2] == [f"{ZARR}/zarr.json", "rows.parquet"]


def test_a_stream_that_is_not_asked_for_is_left_alone(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "damaged")
    flip(location / f"{ZARR}/a/features/c/1/0")
    flip(location / f"{ZARR}/b/features/c/1/0")
    before = fingerprints(location / ZARR / "b")
    extraction.run(location, repair=True, streams=("a=timm:a",))
    assert fingerprints(location / ZARR / "b") == before
    (damage,) = verify(ActivationCache(location))
    assert damage.where == "b, chunk 1"


def test_a_stream_that_is_not_asked_for_may_be_damaged(extraction, tmp_path) -> None:
    location = extraction.copy(tmp_path / "damaged")
    delete(location / f"{ZARR}/a/features/c/1/0")
    for name in ("b/zarr.json", "b/features/zarr.json"):
        delete(location / ZARR / name)
    summary = extraction.run(location, streams=("a=timm:a",))
    assert "a (dim" in str(summary)
    assert contents(location / ZARR / "a") == contents(extraction.whole / ZARR / "a")
