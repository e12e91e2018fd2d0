"""The machine misbehaves: full disks, disks that are gone, no permission, no memory."""

import dataclasses
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.errors import CacheError, EncoderError, SparcError, UnavailableError
from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.encoding import loader

CAPTIONS = [[f"caption {i}"] for i in range(40)]
NOBODY = 65534


@contextmanager
def mounted(*arguments: object) -> Iterator[None]:
    """Mounts something while the context lasts; the test is skipped where that is not allowed."""
    *_, target = map(str, arguments)
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", target], capture_output=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def config(fake_streams) -> ExtractConfig:
    return ExtractConfig(streams=fake_streams[:2], rows_per_chunk=8, batch_size=4, workers=2)


@pytest.fixture
def images(tmp_path, paint_folder) -> Path:
    return paint_folder(tmp_path / "images", 40)


@pytest.fixture
def paint_folder(fake_dataset):
    def paint(folder: Path, number: int) -> Path:
        folder.mkdir(exist_ok=True)
        source = fake_dataset([["x"]] * number)
        for i in range(number):
            (folder / f"{i:03d}.png").write_bytes(source.read_image(f"p{i}"))
        return folder

    return paint


def test_a_full_disk_is_told_and_the_job_goes_on_once_there_is_room(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    job.run(fake_dataset(CAPTIONS), tmp_path / "whole", config, build=fake_encoders())
    with mounted("-t", "tmpfs", "-o", "size=56k", "tmpfs", disk):
        with pytest.raises(OSError, match="No space left") as full:
            job.run(fake_dataset(CAPTIONS), disk / "cache", config, build=fake_encoders())
        assert full.value.errno == errno.ENOSPC
        assert full.value.filename.startswith(str(disk / "cache"))
        assert not list(disk.rglob("*.partial"))
        assert not (disk / "cache/.lock").exists()
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        job.run(fake_dataset(CAPTIONS), disk / "cache", config, build=fake_encoders())
        assert contents(disk / "cache") == contents(tmp_path / "whole")


def test_a_cache_on_a_read_only_disk_can_be_read_and_not_written(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    location = tmp_path / "cache"
    job.run(fake_dataset(CAPTIONS), location, config, build=fake_encoders())
    with mounted("--bind", location, location):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(location)], check=True)
        assert list(verify(ActivationCache(location))) == []
        with pytest.raises(SparcError, match=r"cannot write to .*: Read-only file system; choose"):
            job.run(fake_dataset(CAPTIONS), location, config, build=fake_encoders())


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that others may enter: pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as name:
        before = os.umask(0o022)
        Path(name).chmod(0o755)
        yield Path(name)
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_without_permission_is_not_taken_for_damaged(
    open_to_all, fake_dataset, fake_encoders, config
) -> None:
    location = open_to_all / "cache"
    job.run(fake_dataset(CAPTIONS), location, config, build=fake_encoders())
    for name in ("rows.parquet", "activations.zarr/a/features/c/1/0"):
        (location / name).chmod(0o600)
    os.seteuid(NOBODY)
    try:
        cache = ActivationCache(location)
        with pytest.raises(CacheError, match=r"cannot read .*rows.parquet: Permission denied$"):
            cache.rows()
        with pytest.raises(CacheError, match=r"cannot read chunk 1 of a/features: Permission"):
            cache.features("a", 1)
        with pytest.raises(SparcError, match=r"cannot write to .*: Permission denied"):
            job.run(fake_dataset(CAPTIONS), location, config, build=fake_encoders())
    finally:
        os.seteuid(0)
    assert len(cache.rows()) == len(CAPTIONS)


def test_an_image_that_vanishes_after_it_was_listed_is_rejected(
    tmp_path, images, fake_encoders, config
) -> None:
    dataset = open_dataset(images, DatasetOptions())
    manifest = dataset.manifest
    dataset.manifest = lambda: [manifest(), (images / "007.png").unlink()][0]
    summary = job.run(dataset, tmp_path / "cache", config, build=fake_encoders())
    rejects = summary.cache.rejects().to_pylist()
    assert {(r["sample_id"], r["reason"]) for r in rejects} == {("007", "no such file")}
    assert list(verify(summary.cache)) == []


def test_a_disk_that_is_gone_rejects_no_image(
    tmp_path, paint_folder, fake_encoders, config
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    whole = paint_folder(tmp_path / "whole images", 40)
    with mounted("-t", "tmpfs", "tmpfs", folder):
        paint_folder(folder, 40)
        dataset = open_dataset(folder, DatasetOptions())
        read, reads = dataset.read_image, []

        def read_some(image: str) -> bytes:
            reads.append(image)
            if len(reads) == 20:
                subprocess.run(["umount", "--lazy", str(folder)], check=True)
            return read(image)

        dataset.read_image = read_some
        with pytest.raises(UnavailableError, match=r"cannot be read any more .*run the same"):
            job.run(dataset, tmp_path / "cache", config, build=fake_encoders())
    whole.rename(tmp_path / "aside")
    folder.rmdir()
    (tmp_path / "aside").rename(folder)  # the disk is back
    dataset = open_dataset(folder, DatasetOptions())
    summary = job.run(dataset, tmp_path / "cache", config, build=fake_encoders())
    assert summary.rejected == {"a": 0, "b": 0}
    fresh = job.run(dataset, tmp_path / "undisturbed", config, build=fake_encoders()).cache
    assert contents(fresh.folder.local) == contents(tmp_path / "cache")


def test_too_many_open_files_reject_no_image(tmp_path, images, fake_encoders, config) -> None:
    dataset = open_dataset(images, DatasetOptions())
    folder = dataset.folder
    error = folder.failure("cannot read 001.png", OSError(errno.EMFILE, "Too many open files"))
    assert isinstance(error, UnavailableError)
    error = folder.failure("cannot read 001.png", OSError(errno.EIO, "Input/output error"))
    assert not isinstance(error, UnavailableError)


NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")


@pytest.mark.parametrize(
    ("where", "failure"),
    [
        ("decode", MemoryError()),
        ("prepare", MemoryError()),
        ("prepare", NO_MEMORY),
        ("encode", NO_MEMORY),
    ],
)
def test_no_memory_stops_the_job_and_rejects_no_image(
    tmp_path, fake_dataset, fake_encoders, config, monkeypatch, failure, where
) -> None:
    job.run(fake_dataset(CAPTIONS), tmp_path / "whole", config, build=fake_encoders())

    def fail(*_arguments, **_options):
        raise failure

    def build(specs, device):
        built = fake_encoders()(specs, device)
        if where != "decode":
            setattr(built["b"], where, fail)
        return built

    with monkeypatch.context() as patch:
        if where == "decode":
            patch.setattr(loader, "decode", fail)
        with pytest.raises(EncoderError, match=r"memory.*smaller --batch-size"):
            job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=build)
    job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")


def test_an_error_of_another_kind_is_not_taken_for_memory(
    tmp_path, fake_dataset, fake_encoders, config
) -> None:
    def build(specs, device):
        built = fake_encoders()(specs, device)

        def fail(_pixels: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        built["a"].encode = fail
        return built

    with pytest.raises(RuntimeError, match="shapes"):
        job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=build)


def test_a_clock_that_jumps_changes_no_byte(tmp_path, fake_dataset, fake_encoders, config) -> None:
    """Nothing is decided by when a file was written."""
    job.run(fake_dataset(CAPTIONS), tmp_path / "whole", config, build=fake_encoders())
    job.run(
        fake_dataset(CAPTIONS),
        tmp_path / "cache",
        dataclasses.replace(config, streams=config.streams[:1]),
        build=fake_encoders(),
    )
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (4e9, 4e9))
    job.run(fake_dataset(CAPTIONS), tmp_path / "cache", config, build=fake_encoders())
    assert contents(tmp_path / "cache") == contents(tmp_path / "whole")
