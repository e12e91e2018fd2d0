"""Whatever happens to the files of a cache: what is read is what was written, or one line says no.

FUZZ_ROUNDS=1000 looks at more of them, FUZZ_FIRST=500 begins there.
"""

import os
import random
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparc.common.cache import tables
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.errors import SparcError
from sparc.extract import cache_summary, job
from sparc.extract.config import ExtractConfig

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "12"))

CAPTIONS = [
    [None] if i % 7 == 3 else [f"caption {j} of {i}" + "x" * (i % 13) for j in range(1 + i % 3)]
    for i in range(11)
]


@pytest.fixture
def extract(fake_dataset, fake_encoders, fake_streams):
    """Runs one and the same extraction, with masks, into a cache."""
    dataset = fake_dataset(CAPTIONS, broken=[2], missing=[5])
    plain = dataset.manifest
    masks = pa.table(
        {
            "sample_id": ["s1", "s4"],
            "class_id": [0, 1],
            "height": [2, 3],
            "width": [2, 1],
            "counts": [[1, 3], [0, 3]],
        },
        schema=tables.MASKS,
    )
    import dataclasses

    dataset.manifest = lambda: dataclasses.replace(plain(), masks=masks)

    def run(location: Path, **settings) -> job.Summary:
        config = ExtractConfig(
            streams=fake_streams, rows_per_chunk=8, batch_size=4, workers=2, **settings
        )
        return job.run(dataset, location, config, build=fake_encoders())

    return run


def everything(location: Path) -> dict[str, object]:
    """All that a reader gets from a cache, each thing read on its own; None where it is refused."""
    contents: dict[str, object] = {}
    cache = None
    with refusing():
        cache = ActivationCache(location)
    if cache is None:
        return contents
    readers = {
        "rows": cache.rows,
        "classes": cache.classes,
        "rejects": cache.rejects,
        "masks": cache.masks,
    }
    for stream in ("a", "b", "t"):
        for chunk in range(3):
            readers[f"{stream}/features/{chunk}"] = lambda s=stream, c=chunk: cache.features(s, c)
            readers[f"{stream}/valid/{chunk}"] = lambda s=stream, c=chunk: cache.valid(s, c)
    for name, read in readers.items():
        with refusing():
            contents[name] = read()
    return contents


@contextmanager
def refusing():
    """Lets an error of SPARC's pass, if it is one line that can be shown."""
    message = "fine"
    try:
        yield
    except SparcError as error:
        message = str(error)
    assert message
    assert "\n" not in message


def same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return a.equals(b)


def harm(folder: Path, dice: random.Random) -> str:
    """Do something to one or two files of a folder; returns what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return "nothing left"
    path = dice.choice(files)
    kind = dice.choice(("flip", "flip", "truncate", "delete", "insert", "swap", "overwrite", "dir"))
    content = bytearray(path.read_bytes())
    place = dice.randrange(len(content) + 1)
    if kind == "flip":
        content[min(place, len(content) - 1)] ^= 1 << dice.randrange(8)
    elif kind == "truncate":
        del content[place:]
    elif kind == "insert":
        content[place:place] = dice.randbytes(dice.randrange(1, 40))
    elif kind == "overwrite":
        content[place : place + 16] = dice.randbytes(16)
    elif kind == "swap":
        other = dice.choice(files)
        aside = other.read_bytes()
        other.write_bytes(content)
        path.write_bytes(aside)
        return f"swap {path.relative_to(folder)} {other.relative_to(folder)}"
    if kind == "delete":
        path.unlink()
    elif kind == "dir":
        shutil.rmtree(path.parent)
    else:
        path.write_bytes(content)
    return f"{kind} {place} {path.relative_to(folder)}"


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_cache_that_was_harmed(extract, tmp_path, capsys) -> None:
    whole = tmp_path / "whole"
    extract(whole)
    good, good_files = everything(whole), files_of(whole)
    repaired = 0
    for seed in range(int(os.environ.get("FUZZ_FIRST", "0")), ROUNDS):
        dice = random.Random(seed)
        location = tmp_path / "harmed"
        shutil.copytree(whole, location)
        done = [harm(location, dice) for _ in range(dice.choice((1, 1, 2)))]
        case = f"seed {seed}: {done}"
        if not location.exists():  # all of it was one folder that went
            continue
        contents = everything(location)
        for name, value in contents.items():
            assert value is None or same(good[name], value), (case, name)
        damage = ["cannot be opened"]
        with refusing():
            damage = list(map(str, verify(ActivationCache(location))))
        assert all("\n" not in line for line in damage), (case, damage)
        if contents.keys() != good.keys():
            assert damage, case
        with refusing():
            for line in cache_summary.describe(ActivationCache(location)):
                assert "\n" not in line
        with refusing():
            extract(location, repair=True)
            repaired += 1
            after = files_of(location)
            for name, content in good_files.items():
                if name.endswith(".parquet"):
                    # Statistics, which nobody reads, may be wrong in a table that is not.
                    continue
                assert after.get(name) == content, (case, name)
            assert list(verify(ActivationCache(location))) == [], case
            for name, value in everything(location).items():
                assert same(good[name], value), (case, name)
        capsys.readouterr()
        with suppress(FileNotFoundError):
            shutil.rmtree(location)
    assert repaired > 5
