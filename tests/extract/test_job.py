import dataclasses
import hashlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError, ConfigError, DatasetError, EncoderError, LockedError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.extract import job
from sparc.extract.config import ExtractConfig

CAPTIONS = [
    [None] if i % 11 == 7 else [f"image {i} caption {j}" + "x" * (i % 9) for j in range(1 + i % 4)]
    for i in range(37)
]
"""Runs of one to four captions: with ten rows a chunk, several runs cross a boundary."""


@pytest.fixture
def config(fake_streams) -> ExtractConfig:
    return ExtractConfig(streams=fake_streams, rows_per_chunk=10, batch_size=4, workers=3)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_features_are_those_of_the_encoder_in_fixed_batches(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    dataset, encoders = fake_dataset(CAPTIONS), fake_encoders()
    summary = job.run(dataset, tmp_path / "cache", config, build=encoders)
    (built,) = encoders.built
    group = zarr.open_group(tmp_path / "cache" / "activations.zarr", mode="r")
    rows = pq.read_table(tmp_path / "cache" / "rows.parquet").to_pylist()
    assert summary.encoded_rows == len(rows) == sum(map(len, CAPTIONS))
    assert set(dataset.reads.values()) == {1}
    # Worked out again, the plain way: chunk by chunk, images that begin there, four at a time.
    import torch

    from sparc.common.images.decoding import decode

    expected = np.zeros((len(rows), 16), np.float16)
    first_row = {}
    for row in rows:
        first_row.setdefault(row["image"], row["row"])
    for start in range(0, len(rows), 10):
        begun = [p for p, row in first_row.items() if start <= row < start + 10]
        for i in range(0, len(begun), 4):
            images = begun[i : i + 4]
            pixels = [built["a"].prepare(decode(dataset.read_image(p))) for p in images]
            for image, feature in zip(images, built["a"].encode(torch.stack(pixels)), strict=True):
                places = [row["row"] for row in rows if row["image"] == image]
                expected[places] = feature.numpy().astype(np.float16)
    np.testing.assert_array_equal(group["a/features"][:], expected)
    assert group["a/valid"][:].all()
    no_caption = [row["caption"] is None for row in rows]
    np.testing.assert_array_equal(~group["t/valid"][:], no_caption)
    assert summary.rejected == {"a": 0, "b": 0, "t": sum(no_caption)}
    assert summary.cut["t"] == sum(len(row["caption"] or "") > 20 for row in rows)
    assert list(verify(summary.cache)) == []


def test_a_bad_image_is_masked_with_a_reason_and_moves_no_other_bit(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    good = job.run(fake_dataset(CAPTIONS), tmp_path / "good", config, build=fake_encoders()).cache
    dataset = fake_dataset(CAPTIONS, broken=[2, 9], missing=[3, 36])
    bad = job.run(dataset, tmp_path / "bad", config, build=fake_encoders()).cache
    rows = bad.rows().to_pylist()
    reasons = {(r["row"], r["stream"]): r["reason"] for r in bad.rejects().to_pylist()}
    for stream in ("a", "b"):
        for chunk in range(bad.info.chunks):
            valid = bad.valid(stream, chunk)
            np.testing.assert_array_equal(
                bad.features(stream, chunk)[valid], good.features(stream, chunk)[valid]
            )
            assert not bad.features(stream, chunk)[~valid].any()
            for row, is_valid in zip(bad.info.chunk_rows(chunk), valid, strict=True):
                number = int(rows[row]["image"][1:])
                assert is_valid == (number not in (2, 9, 3, 36))
                if number in (3, 36):
                    assert reasons[row, stream] == "no such file"
                elif not is_valid:
                    assert "not a picture" in reasons[row, stream]
    np.testing.assert_array_equal(bad.features("t", 0), good.features("t", 0))
    assert list(verify(bad)) == []


def test_several_devices_write_what_one_writes(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    job.run(fake_dataset(CAPTIONS), tmp_path / "one", config, build=fake_encoders())
    three = dataclasses.replace(config, devices="cpu,cpu,cpu")
    encoders = fake_encoders(meeting=threading.Barrier(3))
    job.run(fake_dataset(CAPTIONS, broken=[2]), tmp_path / "bad", three, build=encoders)
    job.run(fake_dataset(CAPTIONS), tmp_path / "three", three, build=encoders)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert contents(tmp_path / "one") != contents(tmp_path / "bad")
    assert all(built["a"].batches for built in encoders.built), "every device had work"


def test_a_stream_joins_a_finished_cache_without_touching_the_others(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    location = tmp_path / "cache"
    first = dataclasses.replace(config, streams=("a=timm:a",))
    job.run(fake_dataset(CAPTIONS, broken=[2]), location, first, build=fake_encoders())
    before = {p: p.stat().st_mtime_ns for p in (location / "activations.zarr/a").rglob("*")}
    second = dataclasses.replace(config, streams=("t=transformers:t", "b=timm:b"))
    job.run(fake_dataset(CAPTIONS, broken=[2]), location, second, build=fake_encoders())
    assert before == {p: p.stat().st_mtime_ns for p in (location / "activations.zarr/a").rglob("*")}
    cache = ActivationCache(location)
    assert cache.stream_names == ("a", "t", "b")
    assert list(verify(cache)) == []
    together = dataclasses.replace(config, streams=("a=timm:a", "t=transformers:t", "b=timm:b"))
    job.run(
        fake_dataset(CAPTIONS, broken=[2]), tmp_path / "at once", together, build=fake_encoders()
    )
    assert contents(location) == contents(tmp_path / "at once")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 5}, "batch_size: 4 there, 5 now"),
        ({"dtype": "float32"}, "dtype: 'float16' there, 'float32' now"),
        ({"rows_per_chunk": 11}, "rows per chunk: 10 there, 11 now"),
        ({"compression": "lz4"}, "compression: 'none' there, 'lz4' now"),
    ],
)
def test_other_settings_under_the_same_folder_are_refused(
    tmp_path, fake_dataset, fake_encoders, config, change, message
) -> None:
    job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())
    before = contents(tmp_path / "cache")
    other = dataclasses.replace(config, **change)
    with pytest.raises(CacheError, match=message):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", other, build=fake_encoders())
    assert contents(tmp_path / "cache") == before


def test_another_dataset_or_encoder_is_refused(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())
    with pytest.raises(CacheError, match=r"row \d+, caption: '.*' there, 'other' now"):
        job.run(
            fake_dataset([*CAPTIONS[:-1], ["other"]]),
            tmp_path / "cache",
            config,
            build=fake_encoders(),
        )

    def build(specs, device):
        built = fake_encoders()(specs, device)
        built["a"].origin = dataclasses.replace(built["a"].origin, weights_sha256="other")
        return built

    with pytest.raises(CacheError, match=r"stream a was made in another way \(weights_sha256"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=build)


def test_a_folder_that_is_something_else_is_left_alone(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    (tmp_path / "thesis.partial").write_text("years of work")
    with pytest.raises(CacheError, match=r"not a cache \(it holds thesis.partial\)"):
        job.run(fake_dataset(CAPTIONS), tmp_path, config, build=fake_encoders())
    assert contents(tmp_path).keys() == {"thesis.partial"}


def test_a_cache_that_is_being_written_is_refused(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    with (
        exclusive(Folder(tmp_path / "cache")),
        pytest.raises(LockedError, match=f"process {os.getpid()} on "),
    ):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())


def test_float16_overflow_stops_with_advice_and_the_advice_works(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    large = fake_encoders(scale=1e5)
    with pytest.raises(CacheError, match=r"does not fit float16.*--dtype float32"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=large)
    # No chunk of the stream was written, so even the same name and folder will do.
    wide = dataclasses.replace(config, dtype="float32", streams=("a=timm:a",))
    summary = job.run(fake_dataset(CAPTIONS), tmp_path / "cache", wide, build=large)
    assert np.abs(summary.cache.features("a", 0)).max() > 65_504


def test_an_encoder_that_fails_stops_the_job_and_leaves_it_resumable(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    job.run(fake_dataset(CAPTIONS), tmp_path / "whole", config, build=fake_encoders())

    def build(specs, device):
        built = fake_encoders()(specs, device)
        encode, calls = built["b"].encode, []

        def fail_later(pixels):
            calls.append(1)
            if len(calls) > 7:
                raise RuntimeError("the device fell off the bus")
            return encode(pixels)

        built["b"].encode = fail_later
        return built

    with pytest.raises(RuntimeError, match="fell off the bus"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=build)
    assert ActivationCache(tmp_path / "cache").missing_chunks("a")
    job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")


def test_not_finite_and_zero_features_are_masked(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    def build(specs, device):
        built = fake_encoders()(specs, device)
        encode = built["a"].encode

        def with_faults(pixels):
            features = encode(pixels)
            features[0] = float("nan")
            if len(features) > 1:
                features[1] = 1e-9  # not zero, but zero in float16
            return features

        built["a"].encode = with_faults
        return built

    summary = job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=build)
    reasons = [r for r in summary.cache.rejects().to_pylist() if r["stream"] == "a"]
    assert {r["reason"] for r in reasons} == {"the feature is not finite", "the feature is zero"}
    assert list(verify(summary.cache)) == []


def test_a_stream_without_a_single_feature_is_an_error(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    dataset = fake_dataset(CAPTIONS, missing=range(len(CAPTIONS)))
    with pytest.raises(CacheError, match=r"stream a: no row has a feature .*no such file"):
        job.run(dataset, tmp_path / "cache", config, build=fake_encoders())
    silent = fake_dataset([[None]] * 5)
    with pytest.raises(DatasetError, match="stream t needs a caption"):
        job.run(silent, tmp_path / "silent", config, build=fake_encoders())
    assert not (tmp_path / "silent").exists()


def test_overwriting_begins_again_with_other_settings(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    location, dataset = tmp_path / "cache", fake_dataset(CAPTIONS)
    job.run(dataset, location, config, build=fake_encoders())
    before = contents(location)
    other = dataclasses.replace(config, rows_per_chunk=11, streams=config.streams[:1])

    def broken(specs, device):
        raise EncoderError("no such model")

    with pytest.raises(EncoderError):
        job.run(dataset, location, other, build=broken, overwrite=True)
    (location / "notes.txt").write_text("years of work")
    encoders = fake_encoders()
    with pytest.raises(CacheError, match=r"holds notes\.txt besides the cache, so nothing is over"):
        job.run(dataset, location, other, build=encoders, overwrite=True)
    assert encoders.built == []
    (location / "notes.txt").unlink()
    assert contents(location) == before
    job.run(dataset, location, other, build=encoders, overwrite=True)
    job.run(dataset, tmp_path / "new", other, build=fake_encoders(), overwrite=True)
    assert contents(location) == contents(tmp_path / "new")


def test_an_interrupted_job_says_if_nothing_is_kept(
    tmp_path, fake_dataset, fake_encoders, config, capsys
) -> None:
    def interrupted(after):
        def build(specs, device):
            encoders = fake_encoders()(specs, device)
            encode = encoders.images["a"].encode

            def stop(pixels):
                if len(encoders.images["a"].batches) == after:
                    raise KeyboardInterrupt
                return encode(pixels)

            encoders.images["a"].encode = stop
            return encoders

        return build

    small = dataclasses.replace(config, rows_per_chunk=80)
    ends = itertools.accumulate(map(len, CAPTIONS), initial=0)
    batches = -(-sum(first < 80 for first in list(ends)[:-1]) // config.batch_size)
    for after, lost in ((1, True), (batches, False)):  # in the first chunk; in the second
        with pytest.raises(KeyboardInterrupt):
            job.run(fake_dataset(CAPTIONS), tmp_path / "cache", small, build=interrupted(after))
        said = (
            "no chunk of 80 rows was finished, so nothing is kept: `--rows-per-chunk 64 "
            "--overwrite` keeps more of what is interrupted"
        )
        assert (said in capsys.readouterr().err) == lost


def test_a_cache_behind_a_url(fake_dataset, fake_encoders, config, tmp_path) -> None:
    url = f"memory://test-job-{os.getpid()}/cache"
    dataset = fake_dataset(CAPTIONS, broken=[2])
    summary = job.run(dataset, url, config, build=fake_encoders())
    again = job.run(dataset, url, config, build=fake_encoders())
    assert again.encoded_rows == 0
    assert list(verify(again.cache)) == []
    local = job.run(dataset, tmp_path / "cache", config, build=fake_encoders()).cache
    for name in local.folder.files():
        assert local.folder.read(name) == summary.cache.folder.read(name), name


def test_devices_that_are_not_there_are_refused(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    wanted = dataclasses.replace(config, devices="cpu,cuda:97")
    with pytest.raises(ConfigError, match="cuda:97 is not there"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", wanted, build=fake_encoders())
    assert not (tmp_path / "cache").exists()


DRIVER = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {support!r}]
import fakes
import test_job
from sparc.extract import job
from sparc.extract.config import ExtractConfig

config = ExtractConfig(streams=fakes.STREAMS, rows_per_chunk=10, batch_size=4, workers=2)
dataset = fakes.FakeDataset(test_job.CAPTIONS, broken=[2, 9], missing=[20])
# Importing takes far longer than the job, so it is done once: each line forks a job, and says
# after how many seconds the system ends it; 0: never.
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, float(line))
        job.run(dataset, sys.argv[1], config, build=fakes.FakeEncoders(delay=0.004))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    dataset = fake_dataset(CAPTIONS, broken=[2, 9], missing=[20])
    job.run(dataset, tmp_path / "undisturbed", config, build=fake_encoders())
    location, moments, codes = tmp_path / "killed", random.Random(7), []
    tests = Path(__file__).parent
    script = DRIVER.format(tests=str(tests), support=str(tests.parent / "support"))
    driver = subprocess.Popen(
        [sys.executable, "-c", script, str(location)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with driver:
        while not codes or codes[-1] != 0:
            driver.stdin.write(f"{moments.uniform(0.02, 0.15) if len(codes) < 12 else 0}\n")
            driver.stdin.flush()
            codes.append(int(driver.stdout.readline()))
        driver.stdin.close()
    assert codes.count(-signal.SIGALRM) >= 5
    assert contents(location) == contents(tmp_path / "undisturbed")
    assert list(verify(ActivationCache(location))) == []
