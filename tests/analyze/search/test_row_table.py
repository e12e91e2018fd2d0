import io
import mmap

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest

from sparc.analyze.search import row_table
from sparc.analyze.search.row_table import COLUMNS, open_rows
from sparc.common.cache.reader import ActivationCache
from sparc.common.documents import seal, unseal
from sparc.common.errors import ReportError
from sparc.common.files.folder import Folder


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_rows_are_those_of_the_cache(make_cache, tmp_path, monkeypatch, batch):
    cache = make_cache(tmp_path / "cache", rows=101)
    monkeypatch.setattr(row_table, "_BATCH", batch)
    rows = open_rows(Folder(tmp_path / "report"), cache)
    whole = cache.rows(list(COLUMNS))
    wanted = np.array([100, 0, 63, 64, 64, 7])
    assert rows.take(wanted).to_pylist() == whole.take(wanted).to_pylist()
    assert rows.take(wanted[:0]).num_rows == 0
    # Two captions an image.
    assert rows.of_row.tolist() == [row // 2 for row in range(101)]


def test_rows_are_laid_out_once_and_mapped(make_cache, tmp_path, monkeypatch):
    cache = make_cache(tmp_path / "cache", rows=40)
    folder = Folder(tmp_path / "report")
    open_rows(folder, cache)
    monkeypatch.setattr(ActivationCache, "row_batches", pytest.fail)
    owner = open_rows(folder, cache).of_row
    while not isinstance(owner, mmap.mmap):
        owner = getattr(owner, "obj", None) if isinstance(owner, memoryview) else owner.base
    (tmp_path / "report/index/rows/rows.arrow").write_bytes(b"short")
    with pytest.raises(ReportError, match=r"is damaged .*: remove the report.s folder index"):
        open_rows(folder, cache)


def test_what_an_earlier_version_laid_out_is_laid_out_anew(make_cache, tmp_path):
    cache = make_cache(tmp_path / "cache", rows=40)
    where = tmp_path / "report/index/rows"
    where.mkdir(parents=True)
    (where / "rows.arrow").write_bytes(b"without digests.json")
    assert open_rows(Folder(tmp_path / "report"), cache).take(np.array([3])).num_rows == 1
    assert {path.name for path in where.iterdir()} == {"digests.json", "pictures.npy", "rows.arrow"}


def test_a_batch_is_checked_when_it_is_first_needed(make_cache, tmp_path, monkeypatch):
    cache = make_cache(tmp_path / "cache", rows=40)
    monkeypatch.setattr(row_table, "_BATCH", 20)
    folder = Folder(tmp_path / "report")
    open_rows(folder, cache)
    file = tmp_path / "report/index/rows/rows.arrow"
    content = file.read_bytes()
    at = content.index(b"caption 30")
    file.write_bytes(content[:at] + b"C" + content[at + 1 :])
    rows = open_rows(folder, cache)
    assert rows.take(np.array([3]))["caption"].to_pylist() == ["caption 3"]
    with pytest.raises(ReportError, match=r"table of rows .* is damaged: remove the report"):
        rows.take(np.array([25]))


def replace_batch(where, message):
    """Put another message in the place of all batches, with checks that fit."""
    table = where / "rows.arrow"
    notes = unseal((where / "digests.json").read_bytes())
    begin = notes["rows.arrow"][0][1]
    table.write_bytes(table.read_bytes()[:begin] + message)
    notes["rows.arrow"] = [[0, begin, begin + len(message), google_crc32c.value(message)]]
    (where / "digests.json").write_bytes(seal(notes))


def noted(batch):
    """A batch as a message that has metadata of its own."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch, custom_metadata={"ARROW:experimental_compression": "zstd"})
    return sink.getvalue()[batch.schema.serialize().size : -8]


@pytest.mark.parametrize("kind", ["noted", "end", "schema", "as written"])
def test_only_plain_batches_are_read(kind, make_cache, tmp_path):
    cache = make_cache(tmp_path / "cache", rows=40)
    folder = Folder(tmp_path / "report")
    open_rows(folder, cache)
    (batch,) = cache.rows(list(COLUMNS)).combine_chunks().to_batches()
    message = {
        "noted": lambda: noted(batch),
        "end": lambda: b"\xff\xff\xff\xff\0\0\0\0",
        "schema": batch.schema.serialize,
        "as written": batch.serialize,
    }[kind]()
    replace_batch(tmp_path / "report/index/rows", bytes(message))
    rows = open_rows(folder, cache)
    if kind == "as written":
        assert rows.take(np.array([3]))["caption"].to_pylist() == ["caption 3"]
    else:
        with pytest.raises(ReportError, match=r"table of rows is (not as it was written|damaged)"):
            rows.take(np.array([3]))


def test_what_is_interrupted_leaves_nothing(make_cache, tmp_path, monkeypatch):
    cache = make_cache(tmp_path / "cache", rows=40)

    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ActivationCache, "row_batches", fail)
        with pytest.raises(KeyboardInterrupt):
            open_rows(Folder(tmp_path / "report"), cache)
    assert not [f for f in (tmp_path / "report").rglob("*") if f.is_file()]
    assert len(open_rows(Folder(tmp_path / "report"), cache).of_row) == 40


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_batch_that_would_have_to_be_unpacked_is_refused(make_cache, tmp_path, codec):
    cache = make_cache(tmp_path / "cache", rows=40)
    folder = Folder(tmp_path / "report")
    open_rows(folder, cache)
    buffer = pa.BufferOutputStream()
    batch = pa.record_batch(
        [["p"] * 40, ["i"] * 40, ["x" * 1_000_000] * 40], schema=row_table._SCHEMA
    )
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(buffer, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = pa.ipc.MessageReader.open_stream(buffer.getvalue())
    messages.read_next_message()
    bomb = messages.read_next_message().serialize().to_pybytes()
    where = tmp_path / "report/index/rows"
    (where / "rows.arrow").write_bytes(bomb)
    notes = unseal((where / "digests.json").read_bytes())
    notes["rows.arrow"] = [[0, 0, len(bomb), google_crc32c.value(bomb)]]
    (where / "digests.json").write_bytes(seal(notes))
    before = pa.total_allocated_bytes()
    with pytest.raises(ReportError, match=r"is not as it was written: remove the report"):
        open_rows(folder, cache).take(np.array([3]))
    assert pa.total_allocated_bytes() - before < 1_000_000
