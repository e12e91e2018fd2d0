import hashlib
import json
import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from sparc.common.cache import tables
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.thumbnails import own_images
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder
from sparc.common.images.files import open_image_file
from sparc.extract.datasets.images import CacheImages

NULLS = pa.table({name: [None] for name in tables.CLASSES.names}, schema=tables.CLASSES)
VALUES = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)


def test_a_cache_in_memory(features) -> None:
    url = f"memory://{os.getpid()}-writer/cache"
    cache = write_arrays(url, features, rows_per_chunk=10)
    assert cache.missing_chunks("image") == []
    np.testing.assert_array_equal(cache.features("text", 2), features["text"][20:])
    assert list(verify(cache)) == []


def test_arrays_must_fit_each_other(tmp_path) -> None:
    with pytest.raises(CacheError, match="stream b has 3 rows, stream a 4"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4], "b": VALUES[:3]})
    with pytest.raises(CacheError, match=r"stream a: .*\(rows, dim\)"):
        write_arrays(tmp_path / "cache", {"a": VALUES[0]})
    with pytest.raises(CacheError, match="no features"):
        write_arrays(tmp_path / "cache", {})
    with pytest.raises(CacheError, match="captions: 2 for 4 rows"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, captions=["x", "y"])
    for values, kind in (([[1, 2]], "int64"), ([["x"]], "U1")):
        with pytest.raises(CacheError, match=f"stream a: features of type {kind}, not float"):
            write_arrays(tmp_path / "cache", {"a": values})
    with pytest.raises(CacheError, match="modality of 'b': there is no such stream"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, modality={"b": "text"})
    with pytest.raises(CacheError, match="label_ids name class 3, which is not in classes"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, label_ids=[[], [3]])
    with pytest.raises(CacheError, match="modality of 'a': 'texts' is neither image nor text"):
        write_arrays(tmp_path / "cache", {"a": VALUES}, modality={"a": "texts"})
    with pytest.raises(CacheError, match="rows_per_chunk must be at least 1, not 0"):
        write_arrays(tmp_path / "cache", {"a": VALUES}, rows_per_chunk=0)
    assert not (tmp_path / "cache").exists()


def class_table(*ids: int) -> pa.Table:
    columns = {"class_id": ids, "key": map(str, ids), "name": map(str, ids)}
    rest = {"parent_id": [None] * len(ids), "depth": [1] * len(ids)}
    return pa.table({**{k: list(v) for k, v in columns.items()}, **rest}, schema=tables.CLASSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_ids": list("aabbca")}, "row 5: the rows of one sample_id do not"),
        ({"sample_ids": list("ababab")}, "row 2: the rows of one sample_id do not"),
        ({"label_ids": [[0], [0], [1], [], [0], [0]]}, "row 3: label_ids are not those of the row"),
        ({"label_ids": [[0], [0], [0, 1], [1, 0], [], []]}, "row 3: label_ids are not those of"),
        ({"label_ids": [[0, 1], [1, 1], [0], [0], [], []]}, "row 1: label_ids are not those of"),
        ({"modality": {}}, "stream text, row 1: the feature is not that of the row before"),
        ({"classes": class_table(1, 0)}, "class_id must count from 0 in the order of the table"),
        ({"classes": class_table(0, 0)}, "class_id must count from 0 in the order of the table"),
    ],
)
def test_arrays_whose_rows_contradict_each_other_are_refused_by_row(
    tmp_path, arguments, message
) -> None:
    image = VALUES[[0, 0, 1, 1, 2, 2]]
    image[3] = 0  # not valid, so that it contradicts nothing
    sound = {
        "sample_ids": list("aabbcc"),
        "label_ids": [[0], [0], [1, 0], [1, 0], [], []],
        "classes": class_table(0, 1),
        "modality": {"text": "text"},
    }
    features = {"image": image, "text": VALUES[:6]}
    with pytest.raises(CacheError, match=message):
        write_arrays(tmp_path / "cache", features, **{**sound, **arguments})
    assert not (tmp_path / "cache").exists()
    assert list(verify(write_arrays(tmp_path / "cache", features, **sound, rows_per_chunk=3))) == []


@pytest.mark.parametrize(
    ("label_ids", "stored"),
    [
        (np.array([0, 1, 0]), [[0], [1], [0]]),
        ([0, None, 1], [[0], [], [1]]),
        (np.array([[0, 2], [1, 2], [2, 1]]), [[0, 2], [1, 2], [2, 1]]),
        ([np.array([0, 1]), (), {2}], [[0, 1], [], [2]]),
    ],
)
def test_labels_are_an_int_or_ints_a_row_and_classes_their_names(
    tmp_path, label_ids, stored
) -> None:
    names = ["cat", "dog", "owl"]
    cache = write_arrays(tmp_path / "cache", {"a": VALUES[:3]}, label_ids=label_ids, classes=names)
    assert cache.rows(["label_ids"])["label_ids"].to_pylist() == stored
    assert cache.classes()["name"].to_pylist() == names
    assert list(verify(cache)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_ids": ["cat", "dog"]}, "row 0 is 'cat': give an int a row, [0, 2, …], or"),
        ({"label_ids": [0.0, 1.0]}, "row 0 is 0.0: give an int a row"),
        ({"label_ids": [[0], [[1]]]}, "row 1 is [[1]]: give an int a row"),
        ({"label_ids": [True, False]}, "row 0 is True: give an int a row"),
        ({"label_ids": np.eye(2, dtype=int)}, "a column a class? Give the ids instead: [np."),
        ({"label_ids": 3}, "label_ids: give an int a row"),
        ({"label_ids": [0]}, "label_ids: 1 for 2 rows"),
        ({"label_ids": [0, 5]}, 'name class 5, which is not in classes; classes=["cat", "dog"]'),
        ({"classes": ["cat", "cat"]}, "classes: 2 are called 'cat'"),
        ({"classes": {"cat": 0}}, 'give the list of names, classes=["cat", "dog"], or an Arrow'),
        ({"classes": [1, 2]}, "not a list of other things"),
        ({"classes": pa.table({"class_id": [0], "name": ["a"]})}, "the table has no column key"),
        ({"classes": class_table(0).set_column(4, "depth", [[3]])}, "class 0 is at depth 3"),
        ({"classes": class_table(0).set_column(1, "key", [[None]])}, "'key' with null values"),
        ({"classes": NULLS}, "a class_id is missing"),
    ],
)
def test_labels_in_another_form_are_refused_with_the_right_one(
    tmp_path, arguments, message
) -> None:
    given = {"classes": ["cat", "dog"], **arguments}
    with pytest.raises(CacheError) as caught:
        write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_what_is_known_of_rows_may_come_from_pandas(tmp_path) -> None:
    known = pd.DataFrame(
        {"id": [139, 285, 632], "text": ["a cat", None, "a dog"], "class": [1, 0, 1]}
    )
    classes = pd.DataFrame(
        {"class_id": [0, 1], "key": ["c", "d"], "name": ["cat", "dog"],
         "parent_id": [None, None], "depth": [1, 1]}
    )  # fmt: skip
    cache = write_arrays(
        tmp_path / "cache",
        {"a": VALUES[:3]},
        sample_ids=known["id"],
        captions=known["text"],
        label_ids=known["class"],
        classes=classes,
    )
    rows = cache.rows()
    assert rows["sample_id"].to_pylist() == ["139", "285", "632"]
    assert rows["caption"].to_pylist() == ["a cat", None, "a dog"]
    assert rows["label_ids"].to_pylist() == [[1], [0], [1]]
    assert cache.classes()["name"].to_pylist() == ["cat", "dog"]
    assert list(verify(cache)) == []


def test_an_image_whose_name_is_not_unicode_is_refused_by_row(tmp_path) -> None:
    file = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    open(os.fsencode(file), "xb").close()
    with pytest.raises(CacheError, match=r"images: row 0: .*\.png is not named in UTF-8"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:1]}, images=[file], sample_ids=["a"])


@pytest.mark.parametrize("gap", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_a_caption_may_be_missing_in_every_way_that_people_write_it(tmp_path, gap) -> None:
    cache = write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, captions=["a cat", gap])
    assert cache.rows(["caption"])["caption"].to_pylist() == ["a cat", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"captions": ["a", 7]}, "captions: row 1 is 7, not a text"),
        ({"captions": [b"a", "b"]}, "captions: row 0 is b'a', not a text"),
        ({"sample_ids": [1, 2.5]}, "sample_ids: row 1 is 2.5, neither a text nor a whole number"),
        ({"sample_ids": [True, False]}, "sample_ids: row 0 is True, neither"),
        ({"sample_ids": ["a", None]}, "sample_ids: row 1 is None, neither"),
        ({"captions": ["a", "b\ud800"]}, r"captions: row 1 is 'b\\ud800', which is not valid Uni"),
        ({"sample_ids": ["\udfff", "b"]}, "sample_ids: row 0 is .* is not valid Unicode"),
        ({"label_ids": [0, 0], "classes": ["\udfff"]}, "classes: class 0 .* not valid Unicode"),
    ],
)
def test_captions_and_names_of_another_kind_are_refused_by_row(
    tmp_path, arguments, message
) -> None:
    with pytest.raises(CacheError, match=message):
        write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": VALUES}, "cache"), "the cache's folder comes first, not a dict: write_arrays("),
        (("cache", [VALUES]), 'in a dict: write_arrays("cache", {"dino": dino, "clip": clip})'),
        (("cache", VALUES), "features need the names of their streams"),
        (("cache", {1: VALUES}), "features need the names of their streams"),
    ],
)
def test_swapped_arguments_and_bare_arrays_are_answered_with_a_call(
    tmp_path, monkeypatch, arguments, message
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CacheError) as caught:
        write_arrays(*arguments)
    assert message in str(caught.value)


def test_rows_with_a_value_that_is_not_finite_are_counted_aloud(tmp_path, capsys) -> None:
    values = VALUES.copy()
    values[2, 1], values[5, 0] = np.nan, np.inf
    cache = write_arrays(tmp_path / "cache", {"a": values, "b": VALUES})
    said = "stream a: 2 of 10 rows hold NaN or infinity: they count as missing\n"
    assert capsys.readouterr().err == said
    assert np.flatnonzero(~cache.valid("a", 0)).tolist() == [2, 5]
    values[:, 0] = np.nan
    with pytest.raises(CacheError, match="stream a: every row holds NaN or infinity"):
        write_arrays(tmp_path / "other", {"a": values})
    assert not (tmp_path / "other").exists()


def test_arrays_that_do_not_fit_float16_are_refused_in_the_words_of_python(tmp_path) -> None:
    with pytest.raises(CacheError, match=r'does not fit float16 .*give dtype="float32"'):
        write_arrays(tmp_path / "cache", {"a": 1e6 * VALUES}, dtype="float16")


def test_arrays_may_be_written_again_but_not_others_in_their_place(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    values = VALUES[:4].copy()
    values[1] = np.nan
    for same in (values, values.tolist(), torch.from_numpy(values)):
        write_arrays(tmp_path / "cache", {"a": same}, dtype="float16", rows_per_chunk=3)
    values[3] *= 2
    with pytest.raises(CacheError, match=r"other features of stream a: .*overwrite=True"):
        write_arrays(tmp_path / "cache", {"a": values}, dtype="float16", rows_per_chunk=3)


def test_a_stream_of_arrays_has_the_digest_of_what_is_stored(tmp_path) -> None:
    values = VALUES[:6].copy()
    values[1] = np.nan

    def digest(name: str, values, **more) -> str:
        return write_arrays(tmp_path / name, {"a": values}, **more).streams["a"].origin.digest

    stored = write_arrays(tmp_path / "a", {"a": values}).features("a", 0)
    expected = hashlib.sha256(stored.astype("<f4").tobytes()).hexdigest()
    assert digest("a", values) == expected
    assert digest("b", values.astype(np.float64), rows_per_chunk=4) == expected
    values[1] = -np.inf
    assert digest("c", np.asfortranarray(values)) == expected
    values[5] *= 2
    assert digest("d", values) != expected


def test_a_stream_without_a_digest_is_continued_by_the_same_arrays_only(tmp_path) -> None:
    write_arrays(tmp_path / "cache", {"a": VALUES}, rows_per_chunk=4)
    for name in ("zarr.json", "features/zarr.json"):
        path = tmp_path / "cache/activations.zarr/a" / name
        document = json.loads(path.read_text())
        del document["attributes"]["origin"]["features_sha256"]  # as an earlier version wrote it
        path.write_text(json.dumps(document))
    again = write_arrays(tmp_path / "cache", {"a": VALUES}, rows_per_chunk=4)
    assert again.streams["a"].origin.digest == ""
    other = VALUES * np.repeat([1, 2], [4, len(VALUES) - 4])[:, None]
    with pytest.raises(CacheError, match=r"other features of stream a .chunk 1 differs"):
        write_arrays(tmp_path / "cache", {"a": other}, rows_per_chunk=4)


def test_other_arrays_take_the_place_of_a_cache_where_that_is_asked_for(tmp_path) -> None:
    write_arrays(tmp_path / "cache", {"a": VALUES, "b": VALUES}, captions=list("abcdefghij"))
    with pytest.raises(CacheError, match="overwrite=True"):
        write_arrays(tmp_path / "cache", {"a": VALUES[:4]})
    cache = write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, overwrite=True)
    assert cache.stream_names == ("a",)
    assert cache.info.rows == 4
    assert list(verify(cache)) == []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("somebody's only photo")
    with pytest.raises(CacheError, match=r"not a cache .it holds cat\.jpg"):
        write_arrays(tmp_path / "photos", {"a": VALUES}, overwrite=True)
    assert (tmp_path / "photos/cat.jpg").read_text() == "somebody's only photo"


@pytest.mark.parametrize("removals", range(5))
def test_an_overwrite_that_stopped_halfway_is_done_again(tmp_path, monkeypatch, removals) -> None:
    write_arrays(tmp_path / "cache", {"a": VALUES}, captions=list("abcdefghij"))
    remove, names = Folder.remove, []

    def stop(folder, name):
        if name != ".lock" and len(names) == removals:
            raise KeyboardInterrupt
        names.append(name)
        remove(folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", stop)
        with pytest.raises(KeyboardInterrupt):
            write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, overwrite=True)
    cache = write_arrays(tmp_path / "cache", {"a": VALUES[:4]}, overwrite=True)
    assert cache.info.rows == 4
    assert list(verify(cache)) == []


def test_tensors_of_any_kind_are_arrays(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(VALUES)
    learnt = tensor.clone().requires_grad_()
    cache = write_arrays(tmp_path / "cache", {"a": learnt, "b": tensor.bfloat16()})
    np.testing.assert_array_equal(cache.features("a", 0), VALUES)
    np.testing.assert_allclose(cache.features("b", 0), VALUES, rtol=1e-2)


def test_images_stay_where_they_are_and_are_found_there(tmp_path) -> None:
    files = [tmp_path / "images" / name for name in ("a/cat.png", "b/dog.png")]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True)
        Image.new("RGB", (5 + number, 4)).save(file)
    (tmp_path / "latest.png").symlink_to(files[1])
    features = VALUES[[0, 0, 1, 2]]
    images = [files[0], str(files[0]), tmp_path / "latest.png", None]
    cache = write_arrays(tmp_path / "cache", {"a": features}, images=images)
    assert cache.rows(["sample_id", "image"]).to_pylist() == [
        {"sample_id": name or "3", "image": name}
        for name in ("a/cat.png", "a/cat.png", "b/dog.png", None)
    ]
    assert CacheImages(cache.info).open("b/dog.png").size == (6, 4)
    sizes = {row: image.size for row, image in cache.thumbnails.images(range(4)).items()}
    assert sizes == {0: (5, 4), 1: (5, 4), 2: (6, 4)}
    (chunk,) = (tmp_path / "cache").rglob("features/c/0/0")
    chunk.write_bytes(b"damaged")
    with pytest.raises(CacheError, match="write the same arrays there again"):
        ActivationCache(tmp_path / "cache").features("a", 0)


def test_thumbnails_of_own_images(tmp_path, capsys, monkeypatch) -> None:
    """Across chunks, with images that cannot be read, made again where they are lost."""
    files = []
    for number in range(5):
        files.append(tmp_path / f"images/{number}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 10 * number + 10), (50 * number, 0, 0)).save(files[-1])
    files[3].write_bytes(b"no image")
    order = [0, 0, 1, 1, 1, 1, 1, 2, 3, 4]  # an image that fills a chunk and more
    arguments = {"images": [files[n] for n in order], "rows_per_chunk": 3}
    features = {"a": VALUES[order]}
    cache = write_arrays(tmp_path / "cache", features, **arguments)
    assert "1 image without a thumbnail; the first: " in capsys.readouterr().err
    pictures = cache.thumbnails.images(range(10))
    assert {row: image.size for row, image in pictures.items()} == {
        row: (96, round((10 * n + 10) * 96 / 300)) for row, n in enumerate(order) if n != 3
    }
    whole = {name: cache.folder.read(name) for name in cache.folder.files()}
    (tmp_path / "cache/thumbnails/00000001.parquet").unlink()
    (tmp_path / "cache/thumbnails/00000003.parquet").write_bytes(b"damaged")
    assert len(list(verify(cache))) == 2
    write_arrays(tmp_path / "cache", features, **arguments)
    assert {name: cache.folder.read(name) for name in cache.folder.files()} == whole
    with pytest.raises(CacheError, match=r"thumbnails of 96 pixels, not 64: give thumbnails=96"):
        write_arrays(tmp_path / "cache", features, thumbnails=64, **arguments)
    (tmp_path / "cache/thumbnails/00000002.parquet").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(own_images, "open_image_file", lambda path: open_image_file(f"{path}.gone"))
        with pytest.raises(CacheError, match=r"there is no image .*gone; run the same again once"):
            write_arrays(tmp_path / "cache", features, **arguments)
    write_arrays(tmp_path / "cache", features, **arguments)
    assert {name: cache.folder.read(name) for name in cache.folder.files()} == whole
    bare = write_arrays(tmp_path / "cache", features, thumbnails=0, overwrite=True, **arguments)
    assert bare.thumbnails.side == 0
    assert not (tmp_path / "cache/thumbnails").exists()
    with pytest.raises(CacheError, match="from 16 to 512 pixels, not 7"):
        write_arrays(tmp_path / "cache", features, thumbnails=7, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": ["nowhere.png", None]}, "images: row 0: there is no file nowhere.png"),
        ({"images": [None, VALUES]}, "images: row 1 is a ndarray, not the path of a file"),
        ({"images": [None, None]}, "images: not a single row has one"),
        ({"images": ["/usr/bin/env", "/etc/hostname"]}, "no folder in common"),
        ({"images": ["a"]}, "images: 1 for 2 rows"),
        ({"sample_ids": [7, b"8"]}, "sample_ids: "),
        ({"captions": [VALUES, None]}, "captions: "),
    ],
)
def test_what_is_no_image_or_text_is_refused_in_one_line(tmp_path, arguments, message) -> None:
    with pytest.raises(CacheError) as caught:
        write_arrays(tmp_path / "cache", {"a": VALUES[:2]}, **arguments)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)
