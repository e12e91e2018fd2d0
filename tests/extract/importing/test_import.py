"""Features as the tools of others write them become streams with the same values."""

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sparc
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.errors import DatasetError
from sparc.extract.importing import job
from sparc.extract.importing.arrays.array import FeatureArray, MappedArray
from sparc.extract.importing.config import ImportConfig
from sparc.extract.importing.plan import make_plan
from sparc.extract.importing.sources.feature_file import FeatureFile
from sparc.extract.importing.sources.registry import FORMATS, Entry

ROWS, CHUNK = 60, 16
RANDOM = np.random.default_rng(0)
DINO = RANDOM.standard_normal((ROWS, 6)).astype(np.float32)
CLIP = RANDOM.standard_normal((ROWS, 4)).astype(np.float16)
IDS = [f"picture {row:02}" for row in range(ROWS)]
CAPTIONS = [f"caption {row}" for row in range(ROWS)]
SHUFFLED = RANDOM.permutation(ROWS)


def vectors(values) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def save_npy(folder: Path) -> Path:
    (folder / "npy").mkdir()
    np.save(folder / "npy/dino_features.npy", DINO)
    np.save(folder / "npy/clip_text.npy", CLIP)
    return folder / "npy"


def save_npy_parts(folder: Path) -> Path:
    (folder / "parts").mkdir()
    for part, rows in enumerate((slice(0, 25), *(slice(i, i + 5) for i in range(25, 60, 5)))):
        np.save(folder / f"parts/emb_{part + 4}.npy", np.asfortranarray(DINO[rows]))
    return folder / "parts"


def save_npz(folder: Path) -> Path:
    more = {"ids": np.array(IDS), "captions": np.array(CAPTIONS), "mean": np.zeros(6)}
    np.savez(folder / "plain.npz", dino=DINO, clip=CLIP, **more)
    return folder / "plain.npz"


def save_compressed(folder: Path) -> Path:
    np.savez_compressed(folder / "small.npz", dino=DINO.astype(">f8"), clip=CLIP)
    return folder / "small.npz"


def save_torch(folder: Path) -> Path:
    tensors = {"dino": torch.from_numpy(DINO), "clip": torch.from_numpy(CLIP)}
    torch.save({"streams": tensors, "ids": IDS, "captions": CAPTIONS}, folder / "all.pt")
    return folder / "all.pt"


def save_old_torch(folder: Path) -> Path:
    tensors = {"dino": DINO, "clip": list(torch.from_numpy(CLIP).split(7)), "ids": np.array(IDS)}
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    return folder / "old.pth"


def save_vectors_by_name(folder: Path) -> Path:
    torch.save({i: torch.from_numpy(v) for i, v in zip(IDS, DINO, strict=True)}, folder / "dino.pt")
    return folder / "dino.pt"


def save_vectors_in_npz(folder: Path) -> Path:
    np.savez(folder / "clip.npz", **dict(zip(IDS, CLIP, strict=True)))
    return folder / "clip.npz"


def save_safetensors_by_name(folder: Path) -> Path:
    vectors = {i: torch.from_numpy(v) for i, v in zip(IDS, DINO, strict=True)}
    save_file(vectors, folder / "dino.safetensors")
    return folder / "dino.safetensors"


def save_safetensors(folder: Path) -> Path:
    bfloat = torch.from_numpy(CLIP).bfloat16()
    save_file({"dino": torch.from_numpy(DINO), "clip": bfloat}, folder / "both.safetensors")
    return folder / "both.safetensors"


def save_published(folder: Path) -> Path:
    """As SPARC's published code does: a file a stream."""
    h5py = pytest.importorskip("h5py")
    (folder / "h5").mkdir()
    for name, values in (("dino", DINO), ("clip_text", CLIP)):
        path = folder / f"h5/{name}_features_ViT-B-16.h5"
        with h5py.File(path, "w", libver="latest") as file:
            shape = values.shape
            chunks = (7, shape[1])
            file.create_dataset("features", shape, "float32", chunks=chunks, compression="gzip")
            file.create_dataset("indices", shape[:1], "int32")
            file["features"][:], file["indices"][:] = values, np.arange(ROWS)
    return folder / "h5"


def save_parquet(folder: Path) -> Path:
    table = {"id": IDS, "dino": vectors(DINO), "caption": CAPTIONS}
    pq.write_table(pa.table(table), folder / "dino.parquet", row_group_size=11)
    return folder / "dino.parquet"


def save_lists(folder: Path) -> Path:
    (folder / "lists/2024").mkdir(parents=True)
    for part, rows in enumerate((slice(0, 31), slice(31, ROWS))):
        table = {"image_id": range(ROWS)[rows], "clip": list(map(list, CLIP[rows].astype("f8")))}
        pq.write_table(pa.table(table), folder / f"lists/2024/part-{part}.parquet")
    return folder / "lists"


def save_lance(folder: Path) -> Path:
    lance = pytest.importorskip("lance")
    table = pa.table({"id": IDS, "dino": vectors(DINO), "caption": CAPTIONS})
    lance.write_dataset(table, str(folder / "dino.lance"))
    return folder / "dino.lance"


def save_clip_retrieval(folder: Path) -> Path:
    """As its `OutputSink` does, in eleven partitions."""
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / "clip" / name).mkdir(parents=True)
    for part in range(11):
        rows = slice(part * 6, part * 6 + 6) if part < 10 else slice(60, 60)
        np.save(folder / f"clip/img_emb/img_emb_{part}.npy", DINO[rows])
        np.save(folder / f"clip/text_emb/text_emb_{part}.npy", CLIP[rows])
        known = {"image_path": IDS[rows], "caption": CAPTIONS[rows], "width": range(ROWS)[rows]}
        path = folder / f"clip/metadata/metadata_{part}.parquet"
        pq.write_table(pa.table(known).cast(METADATA), path)
    return folder / "clip"


METADATA = pa.schema([("image_path", pa.string()), ("caption", pa.string()), ("width", "int64")])
BOTH = {"dino": DINO, "clip": CLIP}
SAVED = {
    save_npy: {"dino": DINO, "clip_text": CLIP},
    save_npy_parts: {"parts": DINO},
    save_npz: BOTH,
    save_compressed: BOTH,
    save_torch: {"streams_dino": DINO, "streams_clip": CLIP},
    save_old_torch: BOTH,
    save_vectors_by_name: {"dino": DINO},
    save_vectors_in_npz: {"clip": CLIP},
    save_safetensors_by_name: {"dino": DINO},
    save_safetensors: {"dino": DINO, "clip": torch.from_numpy(CLIP).bfloat16().float().numpy()},
    save_published: {"dino": DINO, "clip_text": CLIP},
    save_parquet: {"dino": DINO},
    save_lists: {"lists": CLIP},
    save_lance: {"dino": DINO},
    save_clip_retrieval: {"image": DINO, "text": CLIP},
}
NAMED = ("npz", "save_torch", "old", "by_name", "parquet", "lance", "clip_retrieval")
CAPTIONED = ("save_npz", "save_torch", "parquet", "lance", "clip_retrieval")


def features(cache: ActivationCache, stream: str) -> np.ndarray:
    return np.concatenate([cache.features(stream, c) for c in range(cache.info.chunks)])


@pytest.fixture
def imported(tmp_path, call):
    """Import something, and what the command said."""

    def run(source, *arguments, status=0, name="cache"):
        done = call("extract", "import", source, tmp_path / name, *arguments)
        assert done.returncode == status, done.stderr
        cache = None if status or "--dry-run" in arguments else ActivationCache(tmp_path / name)
        return SimpleNamespace(cache=cache, said=done.stderr, shown=done.stdout)

    return run


@pytest.mark.parametrize("save", SAVED, ids=[save.__name__ for save in SAVED])
def test_every_format_gives_the_arrays_that_were_saved(save, tmp_path, imported) -> None:
    source = save(tmp_path)
    done = imported(source, "--rows-per-chunk", CHUNK)
    assert set(done.cache.stream_names) == set(SAVED[save])
    for stream, values in SAVED[save].items():
        info = done.cache.stream(stream)
        np.testing.assert_array_equal(features(done.cache, stream), values)
        assert info.modality == ("text" if "text" in stream else "image")
        assert info.origin.spec == "array"
        assert info.origin.imported.rows == ROWS
        assert f"stream    {stream}: {info.modality}, 60 x {info.dim}" in done.said
    rows = done.cache.rows()
    if any(part in save.__name__ for part in NAMED):
        assert rows["sample_id"].to_pylist() == IDS
    else:
        assert rows["sample_id"].to_pylist() == list(map(str, range(ROWS)))
    has_captions = any(part in save.__name__ for part in CAPTIONED)
    assert rows["caption"].to_pylist() == (CAPTIONS if has_captions else [None] * ROWS)
    assert ("captions  all 60 rows" if has_captions else "captions  NONE") in done.said
    assert list(verify(done.cache)) == []
    again = imported(source, "--rows-per-chunk", CHUNK)
    assert "nothing was left to do" in again.said


def test_an_import_trains_like_its_arrays(tmp_path, imported, call) -> None:
    imported(save_npz(tmp_path), "--modality", "clip=text")
    sparc.write_arrays(
        tmp_path / "arrays", BOTH, modality={"clip": "text"}, captions=CAPTIONS, sample_ids=IDS
    )
    steps = "--latents=16", "--k=2", "--steps=4", "--batch-size=16", "--device=cpu"
    for cache in ("cache", "arrays"):
        run = tmp_path / f"run of {cache}"
        assert call("train", "run", tmp_path / cache, run, *steps).returncode == 0
    runs = [tmp_path / f"run of {cache}" / "model.safetensors" for cache in ("cache", "arrays")]
    weights = [next(run.parent.rglob("*.safetensors")).read_bytes() for run in runs]
    assert weights[0] == weights[1]


def test_rows_are_brought_together_by_their_names(tmp_path, imported) -> None:
    save_npz(tmp_path)
    some = SHUFFLED[:50]
    table = {"id": [IDS[row] for row in some], "clip": vectors(CLIP[some]), "text": ["x"] * 50}
    pq.write_table(pa.table(table), tmp_path / "clip.parquet", row_group_size=7)
    lines = [f'"{IDS[row]}","a ""{row}""",{["cat", "dog"][row % 2]},{row / 2}' for row in SHUFFLED]
    lines[7] = lines[7].replace(IDS[SHUFFLED[7]], "unknown")
    (tmp_path / "known.csv").write_text("Sample_ID,Title,label,size\n" + "\n".join(lines))
    done = imported(
        tmp_path, "--stream", "dino=plain.npz::dino", "--stream", "words=clip.parquet",
        "--table", tmp_path / "known.csv", "--column", "size", "--rows-per-chunk", CHUNK,
        "--modality=words=text",
    )  # fmt: skip
    np.testing.assert_array_equal(features(done.cache, "dino"), DINO)
    expected = np.zeros_like(CLIP)
    expected[some] = CLIP[some]
    np.testing.assert_array_equal(features(done.cache, "words"), expected)
    assert "note      stream words lacks 10 of 60 rows: no feature" in done.said
    assert "known.csv has no line for 1 of 60 rows" in done.said
    assert done.cache.rejects()["reason"].to_pylist() == [job.LACKING] * 10
    rows = done.cache.rows(["caption", "label_ids", "size"]).to_pylist()
    lost = SHUFFLED[7]
    for row, known in enumerate(rows):
        there = row != lost
        assert known == {
            "caption": f'a "{row}"' if there else None,
            "label_ids": [row % 2] if there else [],
            "size": row / 2 if there else None,
        }
    assert done.cache.classes()["name"].to_pylist() == ["cat", "dog"]
    assert list(verify(done.cache)) == []


def test_names_in_files_of_their_own_bring_rows_together(tmp_path, imported) -> None:
    source = tmp_path / "named"
    source.mkdir()
    np.save(source / "dino_features.npy", DINO)
    np.save(source / "dino_ids.npy", np.array(IDS))
    np.save(source / "clip.npy", CLIP[SHUFFLED])
    np.save(source / "clip_ids.npy", np.array(IDS)[SHUFFLED])
    for options in ([], ["--stream=clip=clip.npy", "--stream=dino=dino_features.npy"]):
        done = imported(source, *options, "--overwrite")
        rows = [IDS.index(name) for name in done.cache.rows(["sample_id"])["sample_id"].to_pylist()]
        np.testing.assert_array_equal(features(done.cache, "clip"), CLIP[rows])
        np.testing.assert_array_equal(features(done.cache, "dino"), DINO[rows])
        assert "aligned   by the names of rows" in done.said
        assert "not used" not in done.said


def test_names_with_and_without_extensions_are_the_same(tmp_path, imported) -> None:
    source, table = tmp_path / "named", tmp_path / "captions.csv"
    source.mkdir()
    files = [f"train/{name}.JPG" for name in IDS]
    np.savez(source / "dino.npz", x=DINO, ids=files)
    np.savez(source / "clip.npz", x=CLIP[SHUFFLED], ids=np.array(IDS)[SHUFFLED])
    lines = [f"{IDS[row]}.png,{CAPTIONS[row]}" for row in SHUFFLED[:50]]
    table.write_text("\n".join(["file_name,caption", *lines]))
    done = imported(source, "--table", table)
    rows = [IDS.index(name) for name in done.cache.rows(["sample_id"])["sample_id"].to_pylist()]
    np.testing.assert_array_equal(features(done.cache, "clip"), CLIP[rows])
    np.testing.assert_array_equal(features(done.cache, "dino"), DINO[rows])
    captioned = {int(row) for row in SHUFFLED[:50]}
    wanted = [CAPTIONS[row] if row in captioned else None for row in rows]
    assert done.cache.rows(["caption"])["caption"].to_pylist() == wanted
    assert "names of rows are compared without their folders and extensions" in done.said
    np.savez(
        source / "dino.npz", x=DINO, ids=[f"{n // 2}.{'jp' if n % 2 else 'pn'}g" for n in range(60)]
    )
    done = imported(source, status=2, name="other")
    assert "have no name of a row in common" in done.said


def test_captions_beside_any_stream_are_taken_and_others_listed(tmp_path, imported) -> None:
    np.savez(tmp_path / "clip.npz", x=CLIP, ids=IDS, labels=[row % 2 for row in range(ROWS)])
    np.savez(tmp_path / "dino.npz", x=DINO, ids=IDS, captions=CAPTIONS)
    done = imported(tmp_path, "--dry-run")
    assert "captions  all 60 rows" in done.shown
    assert "not used  clip.npz: labels (of one file and group alone is that read; bring it" in (
        done.shown
    )


def test_an_image_with_several_captions_has_a_row_for_each(tmp_path, imported) -> None:
    texts = np.repeat(np.arange(10), 3)
    np.savez(tmp_path / "image.npz", dino=DINO[:12], ids=IDS[:12])
    names = np.array(IDS)[texts]
    np.savez(tmp_path / "text.npz", bert=CLIP[:30], ids=names, captions=CAPTIONS[:30])
    streams = "--stream=dino=image.npz", "--stream=bert=text.npz"
    done = imported(tmp_path, *streams, "--rows-per-chunk", 8)
    np.testing.assert_array_equal(features(done.cache, "dino"), DINO[[*texts, 10, 11]])
    np.testing.assert_array_equal(features(done.cache, "bert")[:30], CLIP[:30])
    rows = done.cache.rows()
    assert rows["sample_id"].to_pylist() == [*names, IDS[10], IDS[11]]
    assert list(verify(done.cache)) == []
    done = imported(tmp_path, *streams, "--modality=bert=image", status=2, name="other")
    assert "stream bert, row 1: the feature is not that of the row before" in done.said


def test_an_import_that_was_stopped_continues(tmp_path, imported, monkeypatch) -> None:
    source = save_parquet(tmp_path)
    whole = imported(source, "--rows-per-chunk", CHUNK, name="whole").cache
    plan = make_plan(source, ImportConfig(rows_per_chunk=CHUNK))
    read = type(plan.streams[0].array).read

    def stop(self, start, stop):
        if start >= 2 * CHUNK:
            raise KeyboardInterrupt
        return read(self, start, stop)

    with monkeypatch.context() as patch:
        patch.setattr(type(plan.streams[0].array), "read", stop)
        with pytest.raises(KeyboardInterrupt):
            job.run(plan, str(tmp_path / "cache"), ImportConfig(rows_per_chunk=CHUNK))
    begun = ActivationCache(tmp_path / "cache")
    assert begun.missing_chunks("dino") == [2, 3]
    done = imported(source, "--rows-per-chunk", CHUNK)
    assert "28 rows imported" in done.said
    for path in Path(str(whole.folder)).rglob("*"):
        if path.is_file():
            there = tmp_path / "cache" / path.relative_to(str(whole.folder))
            assert there.read_bytes() == path.read_bytes()
    chunk = tmp_path / "cache/activations.zarr/dino/features/c/1/0"
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-9] + b"x" + sound[-8:])
    assert "import … " in imported(source, status=0, name="repairs").cache.repair_advice
    imported(source, "--rows-per-chunk", CHUNK, "--repair")
    assert chunk.read_bytes() == sound
    save_parquet(tmp_path)  # written again: another file
    os.utime(source, (1, 1))
    done = imported(source, "--rows-per-chunk", CHUNK, status=2)
    assert "imported from another file, or this one has changed" in done.said


def test_a_stream_joins_and_inspect_says_where_it_comes_from(tmp_path, imported, call) -> None:
    save_npz(tmp_path)
    imported(tmp_path, "--stream", "dino=plain.npz::dino")
    done = imported(tmp_path, "--stream", "clip=plain.npz::clip")
    assert done.cache.stream_names == ("dino", "clip")
    shown = call("extract", "inspect", tmp_path / "cache").stdout
    assert f"imported  {tmp_path}/plain.npz::clip (npz, 60 rows of float16 aligned by ids" in shown
    assert "computed" not in shown
    assert "captions  all 60 rows with a caption" in shown


def test_streams_join_a_cache_that_something_else_made(tmp_path, imported) -> None:
    names = [name for name in IDS[:20] for _ in "ab"]
    made = sparc.write_arrays(
        tmp_path / "cache", {"other": RANDOM.standard_normal((20, 3)).repeat(2, axis=0)},
        sample_ids=names, captions=CAPTIONS[:40], columns={"size": range(40)}, rows_per_chunk=16,
    )  # fmt: skip
    table = {"id": [IDS[row] for row in SHUFFLED], "dino": vectors(DINO[SHUFFLED])}
    pq.write_table(pa.table(table), tmp_path / "dino.parquet")
    done = imported(tmp_path / "dino.parquet", "--join")
    np.testing.assert_array_equal(features(done.cache, "dino"), np.repeat(DINO[:20], 2, axis=0))
    assert "note      40 rows of stream dino belong to no row of the cache" in done.said
    np.save(tmp_path / "words.npy", CLIP[:40])
    done = imported(tmp_path / "words.npy", "--join", "--modality", "words=text")
    np.testing.assert_array_equal(features(done.cache, "words"), CLIP[:40])
    assert done.cache.stream_names == ("other", "dino", "words")
    assert done.cache.rows().equals(made.rows())
    assert list(verify(done.cache)) == []
    np.save(tmp_path / "words.npy", CLIP)
    said = imported(tmp_path / "words.npy", "--join", "--stream=more=words.npy", status=2).said
    assert "stream more has 60 rows, " in said
    assert " 40, and no names of rows tell which belong together" in said


def test_images_are_shown_and_those_that_are_not_there_counted(tmp_path, imported) -> None:
    (tmp_path / "pictures").mkdir()
    for row in range(0, ROWS, 2):
        Image.new("RGB", (20, 20), (row, 0, 0)).save(tmp_path / f"pictures/{row}.png")
    names = [f"{row}.png" for row in range(ROWS - 1)] + ["../outside.png"]
    Image.new("RGB", (20, 20)).save(tmp_path / "outside.png")
    pq.write_table(pa.table({"v": vectors(DINO), "file_name": names}), tmp_path / "v.parquet")
    done = imported(tmp_path / "v.parquet", "--images", tmp_path / "pictures")
    images = done.cache.rows(["image"])["image"].to_pylist()
    assert images == [name if row % 2 == 0 else None for row, name in enumerate(names)]
    assert "note      30 of 60 images are not in" in done.said
    assert done.cache.thumbnails.chunks == [0]


def test_a_folder_says_what_of_it_is_no_stream(tmp_path, imported) -> None:
    np.save(tmp_path / "dino.npy", DINO)
    np.save(tmp_path / "names.npy", np.array(IDS))
    (tmp_path / "old.pkl").write_bytes(pickle.dumps(DINO))
    (tmp_path / "captions.csv").write_text("id,caption\n")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "model.pt")
    done = imported(tmp_path, "--dry-run")
    for line in (
        "stream    dino: image, 60 x 6 float32",
        "used      dino.npy\n",
        "not used  names.npy (if names names rows: --ids NAME=names.npy)",
        "old.pkl (in no format of features: a pickle runs whatever code it names; load it where",
        "captions.csv (in no format of features: captions and labels of a table: --table capt",
        "model.pt (it needs more than tensors (torch.nn.modules.linear.Linear), which is a pick",
        "aligned   as rows follow one another",
    ):
        assert line in done.shown
    assert not (tmp_path / "cache").exists()
    done = imported(tmp_path, "--stream=dino=dino.npy", "--ids", "dino=names.npy")
    assert done.cache.rows(["sample_id"])["sample_id"].to_pylist() == IDS


def refused(folder: Path) -> None:
    """What every case below finds."""
    np.save(folder / "dino.npy", DINO)
    np.save(folder / "short.npy", CLIP[:50])
    np.save(folder / "tokens.npy", np.zeros((4, 7, 3), np.float32))
    np.save(folder / "objects.npy", np.array([None, DINO[0]], object), allow_pickle=True)
    np.savez(folder / "objects.npz", a=np.array([None, 1], object))
    (folder / "cut.npy").write_bytes((folder / "dino.npy").read_bytes()[:500])
    (folder / "cut.pt").write_bytes(b"PK\x03\x04 no")
    (folder / "cut.safetensors").write_bytes(b"\xff" * 30)
    (folder / "cut.parquet").write_bytes(b"PAR1 no")
    (folder / "cut.npz").write_bytes(b"PK no")
    np.savez(folder / "a.npz", x=DINO, ids=IDS)
    np.savez(folder / "b.npz", x=DINO, ids=CAPTIONS)
    np.savez(folder / "differ.npz", x=DINO, ids=["b", "b", *IDS[:58]])
    np.savez(folder / "twice.npz", x=DINO, ids=["b", *IDS[:58], "b"])
    uneven = pa.array([[1.0, 2.0], [1.0]])
    pq.write_table(pa.table({"v": uneven}), folder / "uneven.parquet")
    pq.write_table(pa.table({"v": vectors(DINO), "ids": IDS}), folder / "torn.parquet")
    ids = pq.read_metadata(folder / "torn.parquet").row_group(0).column(1)
    with (folder / "torn.parquet").open("r+b") as file:
        file.seek(ids.dictionary_page_offset)
        file.write(b"\xff" * ids.total_compressed_size)
    (folder / "vector.npy").mkdir()
    np.save(folder / "vector.npy/0.npy", DINO[0])
    np.save(folder / "nan.npy", np.full((3, 2), np.nan, np.float32))
    (folder / "table.csv").write_text("id,caption\nx,y\n")
    (folder / "feature.pkl").write_bytes(pickle.dumps(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dino=dino.npy", "b=short.npy"], "stream dino has 60 rows, stream b 50, and stream dino"),
        (["a=tokens.npy"], "no array of (rows, dim) floats: it is (4, 7, 3) float32; features are"),
        (["a=objects.npy"], "it holds Python objects, which is a pickle, and reading one runs"),
        (["a=objects.npz"], "the array a holds Python objects, which is a pickle"),
        (["a=feature.pkl"], "in no format of features: a pickle runs whatever code it names"),
        (["a=cut.npy"], "cut.npy is no array of NumPy"),
        (["a=cut.npz"], "cut.npz is no .npz of NumPy"),
        (["a=cut.pt"], "cut.pt is no file of torch.save"),
        (["a=cut.safetensors"], "cut.safetensors is no safetensors file"),
        (["a=cut.parquet"], "cut.parquet is not readable as Parquet"),
        (["a=torn.parquet"], "torn.parquet, ids: "),
        (["a=dino.npy", "--table=torn.parquet"], "torn.parquet, ids: "),
        (["a=none.npy"], "there is no none.npy in"),
        (["a=a.npz::y"], "has no array 'y'; it has x: --stream a=a.npz::KEY"),
        (["a=a.npz", "b=b.npz"], "stream b and stream a have no name of a row in common ('capti"),
        (["a=twice.npz"], "row 59, b: the rows of one sample_id do not all follow one another"),
        (
            ["a=differ.npz"],
            "row 1: the feature is not that of the row before, of the same sample_id",
        ),
        (["a=differ.npz"], "say --modality a=text"),
        (["a=vector.npy"], "one vector, (6,) float32; features are (rows, dim): np.savez("),
        (["a=uneven.parquet"], "row 1 has 1 values, others have 2"),
        (["a=nan.npy"], "stream a: no row has a feature (most often: the feature is not finite)"),
        (["dino.npy"], "cannot read stream 'dino.npy': it must be NAME=PATH or NAME=PATH::KEY"),
        (["a=dino.npy", "--modality=b=text"], "--modality b=…: there is no such stream"),
        (["a=dino.npy", "--table=table.csv"], "table.csv has 1 row, stream a 60, and no stream"),
        (["a=a.npz", "--table=table.csv"], "names none of the rows of the streams (it has 'x', th"),
        (["a=a.npz", "--column=size"], "there is no column 'size' to keep; columns: ids"),
        (["a=a.npz", "--caption-column=text"], "--caption-column text: "),
        (
            ["a=a.npz", "--join", "--table=table.csv"],
            "--join takes the rows of the cache with what",
        ),
        (["a=a.npz", "--ids=names"], "a.npz has no array of names; it has ids"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_way_out(
    tmp_path, arguments, message, imported, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(tmp_path)
    options = [text if text.startswith("--") else f"--stream={text}" for text in arguments]
    done = imported(tmp_path, *options, status=2)
    *_, error = done.said.splitlines()
    assert error.startswith("error: ")
    assert message in error


def test_a_file_of_plain_columns_says_what_features_are(tmp_path, imported) -> None:
    pq.write_table(pa.table({"image_id": IDS, "f0": DINO[:, 0]}), tmp_path / "wide.parquet")
    done = imported(tmp_path / "wide.parquet", status=2)
    assert "wide.parquet: no vectors, which are (rows, dim) floats" in done.said
    assert "it has image_id, f0; stack what belongs together, np.stack" in done.said


def test_parts_of_clip_retrieval_that_do_not_belong_together_are_refused(tmp_path) -> None:
    folder = save_clip_retrieval(tmp_path)
    np.save(folder / "text_emb/text_emb_3.npy", CLIP[:5])
    with pytest.raises(DatasetError, match=r"img_emb_3.npy has 6 rows, .*text_emb_3.npy 5"):
        make_plan(folder, ImportConfig())
    (folder / "text_emb/text_emb_3.npy").unlink()
    (folder / "img_emb/img_emb_10.npy").unlink()
    with pytest.raises(DatasetError, match=r"text_emb_4.npy are not of one partition: .*emb_3"):
        make_plan(folder, ImportConfig())


def test_hdf5_does_not_lead_to_files_that_its_author_chose(tmp_path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "secret").write_bytes(bytes(4 * 6 * ROWS))
    kept = {"external": [(str(tmp_path / "secret"), 0, 4 * 6 * ROWS)]}
    layout = h5py.VirtualLayout((ROWS, 6), "float32")
    layout[:] = h5py.VirtualSource("outside.h5", "features", shape=(ROWS, 6))
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("features", (ROWS, 6), "float32", **kept)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("features", layout)
    for name in ("raw.h5", "virtual.h5"):
        with pytest.raises(DatasetError, match=f"{name}, features: its values lie in other files"):
            make_plan(tmp_path / name, ImportConfig())


def test_columns_are_known_by_the_names_that_datasets_know(tmp_path, imported) -> None:
    columns = {"File_Name": IDS, "alt_text": CAPTIONS, "dino": vectors(DINO)}
    pq.write_table(pa.table(columns), tmp_path / "dino.parquet")
    rows = imported(tmp_path / "dino.parquet").cache.rows()
    assert rows["sample_id"].to_pylist() == IDS
    assert rows["caption"].to_pylist() == CAPTIONS


def test_a_format_is_a_file_and_a_line(tmp_path, imported, monkeypatch) -> None:
    class RawFile(FeatureFile):
        @classmethod
        def recognises(cls, path: Path) -> bool:
            return path.suffix == ".f32"

        def arrays(self) -> dict[str, FeatureArray]:
            return {"": MappedArray(np.memmap(self.path, "float32", "r").reshape(-1, 6))}

    monkeypatch.setitem(FORMATS, "raw", Entry("float32 of 6 values a row", "x:y"))
    monkeypatch.setattr(Entry, "load", lambda self: RawFile if self.home == "x:y" else LOAD(self))
    DINO.tofile(tmp_path / "dino.f32")
    done = imported(tmp_path / "dino.f32")
    np.testing.assert_array_equal(features(done.cache, "dino"), DINO)
    assert json.loads((tmp_path / "cache/cache.json").read_text())["dataset_format"] == "import"


LOAD = Entry.load
