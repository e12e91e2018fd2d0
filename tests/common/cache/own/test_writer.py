"""Caches of batches: the bytes of `write_arrays`, whatever happens on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparc
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.documents import seal, unseal
from sparc.common.errors import CacheError, ConfigError, IncompleteCacheError, LockedError
from sparc.common.files.folder import Folder

ROWS, CHUNK = 50, 8
FORM = {"modality": {"text": "text"}, "classes": ["cat", "dog"], "rows_per_chunk": CHUNK}
RANDOM = np.random.default_rng(0)
IMAGE = np.repeat(RANDOM.standard_normal((ROWS // 2, 4)).astype(np.float32), 2, axis=0)
TEXT = RANDOM.standard_normal((ROWS, 3))
IMAGE[4:6], TEXT[9], TEXT[31, 1] = 0, 0, np.nan
KNOWN = {
    "sample_ids": [f"picture {row // 2}" for row in range(ROWS)],
    "captions": [None if row % 7 == 0 else f"caption {row}" for row in range(ROWS)],
    "label_ids": [[row // 2 % 2] if row < 40 else [] for row in range(ROWS)],
}
COLUMNS = {
    "age": [None] * 20 + list(range(15)) + [0.5] * 15,  # null, then integers, then floats
    "place": ["here", None] * (ROWS // 2),
}


def append(cache, start=0, size=7, stop=ROWS) -> None:
    for first in range(start, stop, size):
        rows = slice(first, min(first + size, stop))
        cache.append(
            {"image": IMAGE[rows], "text": TEXT[rows]},
            **{name: values[rows] for name, values in KNOWN.items()},
            columns={name: values[rows] for name, values in COLUMNS.items()},
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def at_once(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("arrays") / "cache"
    sparc.write_arrays(folder, {"image": IMAGE, "text": TEXT}, **KNOWN, columns=COLUMNS, **FORM)
    return contents(folder)


@pytest.mark.parametrize("size", [1, 7, 8, 50])
def test_batches_of_any_size_give_the_bytes_of_arrays(tmp_path, at_once, size, capsys) -> None:
    with sparc.CacheWriter.open(tmp_path / "cache", **FORM) as cache:
        append(cache, size=size)
    assert contents(tmp_path / "cache") == at_once
    assert "stream text: 1 of 50 rows hold NaN or infinity" in capsys.readouterr().err
    opened = ActivationCache(tmp_path / "cache")
    assert list(verify(opened)) == []
    reasons = opened.rejects().to_pylist()
    assert [(r["row"], r["stream"], r["reason"]) for r in reasons] == [
        (4, "image", "the feature is zero"),
        (5, "image", "the feature is zero"),
        (9, "text", "the feature is zero"),
        (31, "text", "the feature is not finite"),
    ]
    with sparc.CacheWriter.open(tmp_path / "cache", **FORM) as cache:  # nothing is left to do
        append(cache, size=3)
    assert contents(tmp_path / "cache") == at_once


@pytest.mark.parametrize("skips", [False, True])
def test_a_writer_that_fails_at_any_write_is_continued(
    tmp_path, at_once, skips, monkeypatch
) -> None:
    whole = Folder.write
    failing = 0
    writes = 0

    def write(self, name, content):
        nonlocal writes
        writes += 1
        if writes == failing:
            raise OSError(28, "No space left on device", name)
        whole(self, name, content)

    monkeypatch.setattr(Folder, "write", write)
    while failing < 300:
        failing, writes = failing + 3 - skips, 0
        folder = tmp_path / f"cache {failing}"
        try:
            with sparc.CacheWriter.open(folder, **FORM) as cache:
                append(cache)
        except OSError:
            pass
        else:
            break
        writes = failing  # no further failure
        with sparc.CacheWriter.open(folder, **FORM) as cache:
            append(cache, start=cache.skip_written() if skips else 0, size=11)
        assert contents(folder) == at_once
    assert failing > 40


def test_a_killed_process_is_continued_from_where_it_was(tmp_path, at_once) -> None:
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import sparc, test_writer
with sparc.CacheWriter.open({str(tmp_path / "cache")!r}, **test_writer.FORM) as cache:
    test_writer.append(cache, stop=33)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with pytest.raises(IncompleteCacheError, match="begun in batches and not closed; give `sparc"):
        ActivationCache(tmp_path / "cache")
    with pytest.raises(CacheError, match="was begun in batches and not closed"):
        sparc.write_arrays(tmp_path / "cache", {"image": IMAGE})
    with sparc.CacheWriter.open(tmp_path / "cache", **FORM) as cache:
        assert cache.rows_written == 32
        assert cache.skip_written() == 32
        append(cache, start=32)
        assert cache.rows == ROWS
    assert contents(tmp_path / "cache") == at_once


def test_a_damaged_chunk_is_written_again_and_another_one_refused(tmp_path, at_once) -> None:
    folder = tmp_path / "cache"
    chunk = folder / "activations.zarr/text/features/c/2/0"
    for rows in (30, ROWS):
        stopped = sparc.CacheWriter.open(folder, **FORM)
        append(stopped, stop=rows)
        if rows == ROWS:
            stopped.close()
        stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
        chunk.write_bytes(chunk.read_bytes()[:-20] + bytes(20))
        with sparc.CacheWriter.open(folder, **FORM) as cache:
            append(cache)
        assert contents(folder) == at_once
    TEXT[17, 0] += 1
    try:
        with (
            pytest.raises(CacheError, match=r"other features of stream text \(chunk 2 differs\)"),
            sparc.CacheWriter.open(folder, **FORM) as cache,
        ):
            append(cache)
    finally:
        TEXT[17, 0] -= 1
    with sparc.CacheWriter.open(folder, **FORM) as cache:
        append(cache)
        with pytest.raises(CacheError, match="finished cache of 50 rows, and more were appended"):
            append(cache)
    assert contents(folder) == at_once
    with pytest.raises(CacheError, match=r"image differs \(dtype: 'float32' there, 'float16' now"):
        append(sparc.CacheWriter.open(folder, **FORM, dtype="float16"))


def test_rows_that_are_lost_before_the_end_are_not_left_out_in_silence(tmp_path, at_once) -> None:
    folder = tmp_path / "cache"
    cache = sparc.CacheWriter.open(folder, **FORM)
    append(cache)
    (folder / "appended/00000002.parquet").write_bytes(b"PAR1")
    with pytest.raises(CacheError, match=r"rows of chunk 2 was lost or damaged .* append all"):
        cache.close()
    with sparc.CacheWriter.open(folder, **FORM) as again:
        append(again)
    assert contents(folder) == at_once


def test_what_a_newer_version_began_is_not_called_damaged(tmp_path) -> None:
    folder = tmp_path / "cache"
    stopped = sparc.CacheWriter.open(folder, **FORM)
    append(stopped, stop=20)
    stopped.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    begun = folder / "appended/begun.json"
    begun.write_bytes(seal({**unseal(begun.read_bytes()), "shuffled": True}))
    with pytest.raises(CacheError, match=r"'shuffled' is unknown .* was made by a newer one"):
        append(sparc.CacheWriter.open(folder, **FORM))


def test_a_stream_joins_a_finished_cache(tmp_path) -> None:
    folder = tmp_path / "cache"
    sparc.write_arrays(folder, {"image": IMAGE}, sample_ids=KNOWN["sample_ids"], rows_per_chunk=8)
    more = {"modality": {"text": "text"}, "rows_per_chunk": 8}
    with sparc.CacheWriter.open(folder, **more) as cache:
        for first in range(0, ROWS, 9):
            rows = slice(first, first + 9)
            cache.append({"text": TEXT[rows]}, sample_ids=KNOWN["sample_ids"][rows])
    streams = {"image": IMAGE, "text": TEXT}
    sparc.write_arrays(
        tmp_path / "both", streams, sample_ids=KNOWN["sample_ids"], modality={"text": "text"},
        rows_per_chunk=8,
    )  # fmt: skip
    assert contents(folder) == contents(tmp_path / "both")
    with (
        pytest.raises(CacheError, match="row 0, sample_id: 'picture 0' there, '0' now"),
        sparc.CacheWriter.open(folder, **more) as cache,
    ):
        cache.append({"text": TEXT})


def test_images_are_named_below_the_folder_that_holds_those_of_all_batches(tmp_path) -> None:
    files = []
    for number in range(10):
        path = tmp_path / "pictures" / ("a" if number < 5 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), (number * 20, 0, 0)).save(path)
        files.append(path)
    files[3] = None
    values = TEXT[:10] + 1
    with sparc.CacheWriter.open(tmp_path / "cache", rows_per_chunk=4, thumbnails=16) as cache:
        for first in range(0, 10, 3):
            cache.append({"a": values[first : first + 3]}, images=files[first : first + 3])
    sparc.write_arrays(
        tmp_path / "arrays", {"a": values}, images=files, rows_per_chunk=4, thumbnails=16
    )
    assert contents(tmp_path / "cache") == contents(tmp_path / "arrays")
    assert ActivationCache(tmp_path / "cache").rows()["sample_id"].to_pylist()[2:5] == [
        "a/2.png", "3", "a/4.png"
    ]  # fmt: skip


def test_behind_a_url(at_once) -> None:
    url = f"memory://{os.getpid()}-appended/cache"
    with sparc.CacheWriter.open(url, **FORM) as cache:
        append(cache)
    folder = Folder(url)
    assert {name: folder.read(name) for name in folder.files()} == at_once


@pytest.mark.parametrize(
    ("batch", "arguments", "message"),
    [
        ({"image": IMAGE[:3]}, {}, "the batch at row 6 lacks stream text"),
        ({"image": IMAGE[:2], "text": TEXT[:3]}, {}, "stream text has 3 rows, stream image 2"),
        ({"image": IMAGE[:2], "text": TEXT[:2], "more": TEXT[:2]}, {}, "has a stream more that"),
        (
            {"image": IMAGE[:2, :3], "text": TEXT[:2]},
            {},
            "image: features of 3 values in",
        ),
        ({"image": IMAGE[:2].astype(int), "text": TEXT[:2]}, {}, "features of type int64, not"),
        ({"image": IMAGE[0], "text": TEXT[:1]}, {}, r"features of shape \(4,\), not \(rows, dim\)"),
        ([IMAGE, TEXT], {}, r"needs the names of its streams, in a dict: append\(\{"),
        ({}, {"sample_ids": None}, "the batch at row 6 lacks sample_ids, unlike those before"),
        ({}, {"captions": ["x"]}, "captions: 1 for 2 rows"),
        ({}, {"label_ids": [0, 2]}, "label_ids name class 2, which is not in classes"),
        ({}, {"sample_ids": ["picture 2", "d"]}, "stream image, row 6: the feature is not that of"),
        ({}, {"columns": {"age": [1, 2]}}, "the batch lacks the column 'place'"),
        ({}, {"columns": {"age": ["x", "y"], "place": ["x", "y"]}}, "columns of the batch and of"),
        ({}, {"columns": {"age": [1, "y"], "place": ["x", "y"]}}, "column 'age': values of the"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_and_nothing_of_it_kept(
    tmp_path, batch, arguments, message, at_once
) -> None:
    fitting = {"sample_ids": ["c", "d"], "columns": {"age": [1, 2], "place": ["x", "y"]}}
    features = batch or {"image": RANDOM.standard_normal((2, 4)), "text": TEXT[:2]}
    ages = {**COLUMNS, "age": list(range(ROWS))}
    rows = slice(0, 6)
    with sparc.CacheWriter.open(tmp_path / "cache", **FORM) as cache:
        cache.append(
            {"image": IMAGE[rows] + 1, "text": TEXT[rows]},
            **{name: values[rows] for name, values in KNOWN.items()},
            columns={name: values[rows] for name, values in ages.items()},
        )
        with pytest.raises(CacheError, match=message):
            cache.append(features, **{**fitting, **arguments})
        assert cache.rows == 6
    assert ActivationCache(tmp_path / "cache").info.rows == 6


def test_a_name_that_no_stream_may_have_is_refused_before_anything_is_written(tmp_path) -> None:
    with (
        pytest.raises(ConfigError, match=r"a stream cannot be called '\.\./x': use lower-case"),
        sparc.CacheWriter.open(tmp_path / "cache") as cache,
    ):
        cache.append({"../x": IMAGE})
    assert not list(tmp_path.rglob("*.zarr"))


def test_what_comes_after_the_end_is_refused_and_closing_twice_is_closing_once(tmp_path) -> None:
    with sparc.CacheWriter.open(tmp_path / "done") as cache:
        cache.append({"text": TEXT[:5]})
        assert cache.close().info.rows == 5
    with pytest.raises(CacheError, match="is closed: append before its `with` block ends"):
        cache.append({"text": TEXT[5:]})
    assert cache.close().info.rows == 5
    with pytest.raises(KeyError), sparc.CacheWriter.open(tmp_path / "failed") as cache:
        raise KeyError
    with pytest.raises(CacheError, match="is closed"):
        cache.append({"text": TEXT})


def test_what_cannot_be_begun_or_closed_leaves_no_folder(tmp_path) -> None:
    folder = tmp_path / "cache"
    with pytest.raises(CacheError, match="no row was appended"):
        sparc.CacheWriter.open(folder).close()
    with (
        pytest.raises(CacheError, match="captions: row 0 is 1"),
        sparc.CacheWriter.open(folder) as cache,
    ):
        cache.append({"a": IMAGE[:2]}, captions=[1.5, "x"])
    assert not folder.exists()


def test_images_that_come_back_are_refused_at_the_end(tmp_path) -> None:
    writer = sparc.CacheWriter.open(tmp_path / "cache")
    with pytest.raises(LockedError):
        sparc.CacheWriter.open(tmp_path / "cache")
    for name in "aba":
        writer.append({"a": IMAGE[:1]}, sample_ids=[name])
    with pytest.raises(CacheError, match="row 2: the rows of one sample_id do not all follow"):
        writer.close()
    with sparc.CacheWriter.open(tmp_path / "cache", overwrite=True) as cache:
        cache.append({"a": torch.from_numpy(IMAGE[:3] + 1).bfloat16()})
    assert ActivationCache(tmp_path / "cache").rows()["sample_id"].to_pylist() == ["0", "1", "2"]
