import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparc.analyze.bias.attribute import check_both_sides, contrast, read_attribute
from sparc.analyze.rows.images import number_images
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.tables import CLASSES
from sparc.common.errors import ConfigError

IDS = ["007", "007", "b", "c", "d"]
CAPTIONS = ["A Woman", "a dog", None, "women", "an old lady"]
LABELS = [[2], [2], [0], [], [3]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    columns = {
        "class_id": range(4),
        "key": ["/m/0", "/m/1", "/m/2", "/m/3"],
        "name": ["Animal", "Dog", "Puppy", "Dog"],
        "parent_id": [None, 0, 1, None],
        "depth": [1, 2, 3, 1],
    }
    return write_arrays(
        tmp_path_factory.mktemp("cache"),
        {"a": np.ones((5, 2), np.float32)},
        sample_ids=IDS,
        captions=CAPTIONS,
        label_ids=LABELS,
        classes=pa.table(columns, schema=CLASSES),
        columns={
            "year": [2001, 2002, None, 2001, 7],
            "site": ["north", "north", "n=1", None, ""],
            "site=n": [True, None, False, True, False],
            "share": [0.5, 0.5, 2.0, None, 1.0],
        },
    )


def read(cache, text, valid=(1, 1, 1, 1, 1)):
    sample_ids = cache.rows(["sample_id"])["sample_id"]
    images = number_images(sample_ids.chunks, np.array(valid, bool))
    found = read_attribute(text, cache, images)
    assert (found.held <= found.known).all()
    return found.held.tolist(), found.known.tolist()


def test_a_class_is_held_with_all_below_it_and_unlabelled_images_are_unknown(cache):
    known = [True, True, False, True]
    assert read(cache, "class:/m/1") == ([True, False, False, False], known)
    assert read(cache, "class:animal") == ([True, True, False, False], known)
    assert read(cache, "class:PUPPY") == ([True, False, False, False], known)


def test_a_class_is_not_there_or_not_the_only_one(cache):
    with pytest.raises(ConfigError, match="no class is called 'cat'"):
        read(cache, "class:cat")
    with pytest.raises(ConfigError, match="no class is called 'Dogs'; there are Dog, …"):
        read(cache, "class:Dogs")
    with pytest.raises(ConfigError, match=r"2 classes are called 'dog' \(keys /m/1, /m/3\)"):
        read(cache, "class:dog")


def test_words_are_held_by_any_caption_of_a_image(cache, tmp_path):
    known = [True, False, True, True]
    assert read(cache, "words:woman") == ([True, False, False, False], known)
    assert read(cache, "words: woman , old lady") == ([True, False, False, True], known)
    (tmp_path / "list.txt").write_text("Women\n\nlady\n")
    assert read(cache, f"words:@{tmp_path}/list.txt") == ([False, False, True, True], known)
    with pytest.raises(ConfigError, match="holds no word"):
        read(cache, "words: , ")
    with pytest.raises(ConfigError, match=r"cannot read .*none.txt: No such file or directory$"):
        read(cache, f"words:@{tmp_path}/none.txt")


def test_images_that_are_not_analysed_are_unknown(cache):
    assert read(cache, "words:woman", (0, 0, 1, 1, 1)) == ([False] * 4, [False, False, True, True])


def test_a_table_is_matched_by_sample_id_never_by_position(cache, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("sample_id,smiles,who\nd,true,x\n007,false,y\nunknown,true,x\nc,,\n")
    known = [True, False, False, True]
    assert read(cache, f"table:{file}#smiles") == ([False, False, False, True], known)
    assert read(cache, f"table:{file}#who=y") == ([True, False, False, False], known)
    with pytest.raises(ConfigError, match=r"not true or false.*#who=x \(there are x, y\)"):
        read(cache, f"table:{file}#who")
    with pytest.raises(ConfigError, match="has no column 'age'; it has sample_id, smiles, who"):
        read(cache, f"table:{file}#age")


def test_a_cell_of_csv_is_what_stands_there(cache, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("sample_id,indoor,price,code\nb,true,1.50,007\nc,false,2.00,7\n")
    known = [False, True, True, False]
    for column in ("indoor=true", "price=1.50", "code=007"):
        assert read(cache, f"table:{file}#{column}") == ([False, True, False, False], known)
    assert read(cache, f"table:{file}#code=7") == ([False, False, True, False], known)
    assert read(cache, f"table:{file}#indoor") == ([False, True, False, False], known)


def test_a_parquet_table(cache, tmp_path):
    booleans = pa.table({"sample_id": ["c", "b"], "indoor": [True, False]})
    pq.write_table(booleans, tmp_path / "b.parquet")
    for text in ("=true", "=True", ""):
        found = read(cache, f"table:{tmp_path}/b.parquet#indoor{text}")
        assert found == ([False, False, True, False], [False, True, True, False])
    table = pa.table({"age": [3, 4], "sample_id": ["c", "b"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read(cache, f"table:{tmp_path}/t.parquet#age=4")
    assert found == ([False, True, False, False], [False, True, True, False])


def test_a_column_of_the_cache_is_held_by_an_image_with_such_a_row(cache):
    known = [True, False, True, True]  # of c, no value of site is known
    for text, column_known, held in (
        ("site=north", [True, True, False, True], [True, False, False, False]),
        ("site=", [True, True, False, True], [False, False, False, True]),
        ("year=2001", known, [True, False, True, False]),
        ("year=2002", known, [True, False, False, False]),
        ("share=2", [True, True, False, True], [False, True, False, False]),
        ("site=n", [True] * 4, [True, False, True, False]),  # a column of that name, true
        ("site=n=false", [True] * 4, [False, True, False, True]),
    ):
        assert read(cache, f"column:{text}") == (held, column_known), text
    assert read(cache, "column:year=2001", (0, 0, 1, 1, 1))[0] == [False, False, True, False]


def test_a_column_or_value_that_is_not_there_is_refused(cache, tmp_path):
    for text, message in (
        ("colour=red", "has no column 'colour'; it has share, site, site=n, year"),
        ("caption", "has no column 'caption'; it has share"),
        ("year=new", "column year is of type int64, and 'new' is not"),
        ("site=n=maybe", "column site=n is of type bool, and 'maybe' is not"),
        (
            "year",
            r"column:year is not true or false; .* column:year=2001 \(there are 2001, 2002, 7",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            read(cache, f"column:{text}")
    bare = write_arrays(tmp_path / "bare", {"a": np.ones((5, 2), np.float32)})
    with pytest.raises(ConfigError, match="no column 'site'; it was extracted without --column"):
        read(bare, "column:site=north")


def test_tables_that_say_nothing_or_too_much(cache, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("sample_id,x\n7,true\n")
    with pytest.raises(ConfigError, match=r"names no image of .*such as '?7'?, the cache's.*007"):
        read(cache, f"table:{file}#x")
    file.write_text("sample_id,x\nb,true\nb,false\n")
    with pytest.raises(ConfigError, match="'b' has two different values of x"):
        read(cache, f"table:{file}#x")
    with pytest.raises(ConfigError, match=r"cannot read .*none\.csv as a CSV or Parquet table"):
        read(cache, f"table:{tmp_path}/none.csv#x")


@pytest.mark.parametrize(
    "text", ["", "woman", "class:", "words:", "column:", "table:x.csv", "colour:red"]
)
def test_what_follows_no_grammar_shows_it(cache, text):
    with pytest.raises(ConfigError, match=r"cannot read the attribute .*give class:<name or key>"):
        read(cache, text)


def test_one_attribute_against_another(cache):
    sample_ids = cache.rows(["sample_id"])["sample_id"]
    images = number_images(sample_ids.chunks, np.ones(5, bool))
    first, second = (read_attribute(t, cache, images) for t in ("words:woman,lady", "words:a"))
    found = contrast(first, second)
    # Image 0 has both, image 2 ("women") neither.
    assert found.held.tolist() == [False, False, False, True]
    assert found.known.tolist() == [False, False, False, True]
    with pytest.raises(ConfigError, match="1 of 1 image have it"):
        check_both_sides(found)
