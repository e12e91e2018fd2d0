"""A few kilobytes of Parquet do not take gigabytes of memory."""

import io
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.common.files.parquet import ParquetTable, read_parquet
from sparc.common.files.parquet_footer import column_claims

POOL = pa.default_memory_pool()
COUNTED = pa.proxy_memory_pool(POOL)
"""Memory of which nobody but these tests has taken any."""

BAD = (ValueError, OSError, KeyError, pa.ArrowException)


def stored(table: pa.Table, **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", **options)
    return buffer


def named(text: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), [text])


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("by_batches", [False, True])
def test_a_long_text_named_often_is_refused_before_it_is_spelled_out(nested, by_batches) -> None:
    texts = named("x" * 100_000, 50_000)
    if nested:
        texts = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    file = stored(pa.table({"text": texts}), store_schema=False)
    assert len(file.getvalue()) < 30_000
    pa.set_memory_pool(COUNTED)
    try:
        with pytest.raises(BAD, match="far more than a file of its size"):
            list(ParquetTable(file).batches(1 << 16)) if by_batches else read_parquet(file)
    finally:
        pa.set_memory_pool(POOL)
    assert 0 < COUNTED.max_memory() < 1 << 28


def test_rows_that_no_file_of_its_size_holds_are_not_believed() -> None:
    file = stored(pa.table({"number": pa.array([7] * 5_000_000, pa.int8())}))
    with pytest.raises(ValueError, match="claims 5,000,000 rows"):
        read_parquet(file)


def test_texts_that_are_not_unicode_are_refused() -> None:
    texts = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    with pytest.raises(BAD):
        read_parquet(stored(pa.table({"text": texts})))


def test_what_is_sound_comes_back_as_it_was() -> None:
    table = pa.table(
        {
            "number": pa.array([1, 2, None]),
            "text": ["a", None, "ä" * 1000],
            "words": pa.array([["a", None], [], None], pa.list_(pa.field("element", pa.string()))),
            "flag": [True, False, None],
        }
    ).replace_schema_metadata({b"sparc": b"{}"})
    file = stored(table, row_group_size=2)
    assert read_parquet(file).equals(table, check_metadata=True)
    assert read_parquet(file, ["text", "number"]).equals(table.select(["text", "number"]))
    assert pa.Table.from_batches(ParquetTable(file).batches(2)).equals(table)
    with pytest.raises(KeyError):
        read_parquet(file, ["absent"])


@pytest.mark.parametrize("content", [b"", b"PAR1PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_refused(content) -> None:
    with pytest.raises(BAD):
        read_parquet(io.BytesIO(content))


def test_a_table_of_many_columns_takes_no_longer_than_its_columns() -> None:
    file = stored(pa.table({str(number): pa.nulls(1, pa.int8()) for number in range(8000)}))
    start = time.process_time()
    assert read_parquet(file).num_columns == 8000
    assert time.process_time() - start < 10  # it took a minute


def test_the_claims_of_a_footer_are_those_that_arrow_reads() -> None:
    table = pa.table({"n": range(50), "t": [["a"] * (i % 9) for i in range(50)], "d": [0.5] * 50})
    file = stored(table, row_group_size=20)
    footer = pq.read_metadata(file)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    columns = [group.column(n) for group in groups for n in range(group.num_columns)]
    assert column_claims(file) == [(c.num_values, c.total_uncompressed_size) for c in columns]
    assert len(columns) == 9


CHANGE_EVERY_BYTE = """
import io, sys
import pyarrow as pa
from sparc.common.files.parquet import read_parquet
sound = sys.stdin.buffer.read()
footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
for place in range(footer, len(sound)):
    for value in (sound[place] ^ 1, sound[place] ^ 3, 50):
        try:
            read_parquet(io.BytesIO(sound[:place] + bytes([value]) + sound[place + 1 :]))
        except (ValueError, OSError, KeyError, pa.ArrowException):
            pass
"""


def test_no_changed_byte_of_a_footer_ends_the_process() -> None:
    """Arrow's histograms of nulls, of other lengths than they should be, did."""
    table = pa.table({"parent": pa.array([None, 1, 2]), "counts": [[1, 2], [], None]})
    sound = stored(table).getvalue()
    command = [sys.executable, "-c", CHANGE_EVERY_BYTE]
    done = subprocess.run(command, input=sound, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:].decode()
