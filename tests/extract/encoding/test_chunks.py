from itertools import groupby

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparc.common.cache import tables
from sparc.common.errors import DatasetError
from sparc.extract.encoders import parse_spec
from sparc.extract.encoding.chunks import ChunkTable, lacking, require_inputs


def rows_table(runs: list[int], captions: list[str | None] | None = None) -> pa.Table:
    images = [image for image, run in enumerate(runs) for _ in range(run)]
    return pa.table(
        {
            "row": range(len(images)),
            "sample_id": [f"s{image}" for image in images],
            "image": [None if image % 5 == 4 else f"p{image}" for image in images],
            "caption": captions or [None] * len(images),
            "label_ids": [[]] * len(images),
        },
        schema=tables.ROWS,
    )


@given(st.lists(st.integers(1, 7), min_size=1, max_size=20), st.integers(1, 12))
def test_chunks_cover_every_row_once_and_every_image_once(runs: list[int], size: int) -> None:
    rows = rows_table(runs)
    table = ChunkTable(rows)
    assert table.distinct_images == len(runs)
    paths = rows.column("image").to_pylist()
    covered, begun = [], []
    for index, start in enumerate(range(0, len(rows), size)):
        span = range(start, min(start + size, len(rows)))
        chunk = table.chunk(index, span, ["a"])
        assert chunk.rows == span
        covered += [start + i for i in range(chunk.carried)]
        for image in chunk.images:
            covered += image.rows
            begun.append(image.rows.start)
            assert {paths[row] for row in image.rows} == {image.path}
    assert covered == list(range(len(rows)))
    ids = enumerate(rows.column("sample_id").to_pylist())
    assert begun == [next(run)[0] for _, run in groupby(ids, key=lambda pair: pair[1])]


def test_captions_leave_out_blank_ones() -> None:
    table = ChunkTable(rows_table([1, 1, 1, 1], ["one", None, "  \n", "four"]))
    assert table.chunk(0, range(4), ["t"]).captions == ((0, "one"), (3, "four"))


def test_lacking_turns_streams_into_chunks_in_order() -> None:
    assert lacking({"a": [2, 0], "b": [1, 2], "c": []}) == {0: ["a"], 1: ["b"], 2: ["a", "b"]}
    assert list(lacking({"a": [5, 1], "b": [3]})) == [1, 3, 5]


def test_a_stream_without_anything_to_encode_is_refused() -> None:
    text = {"words": parse_spec("transformers:x")}
    with pytest.raises(DatasetError, match="stream words needs a caption"):
        require_inputs(rows_table([1, 2]), text)
    require_inputs(rows_table([1, 2]), {"look": parse_spec("timm:x")})
