from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sparc.common.cache.manifest import Manifest
from sparc.extract.datasets import DatasetOptions, open_dataset


@pytest.fixture
def paint() -> Callable[..., None]:
    """Writes small images of these names into a folder."""

    def write(folder: Path, *names: str) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = sum(name.encode()) % 256
            kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
            Image.new("RGB", (8, 6), (shade, 90, 255 - shade)).save(path, kind)

    return write


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a file below the test's folder."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Manifest]:
    """The manifest of the test's folder with these options."""

    def read(**options: Any) -> Manifest:
        return open_dataset(tmp_path, DatasetOptions(**options)).manifest()

    return read


@pytest.fixture
def captions() -> Callable[[Manifest], list[tuple[str, str | None]]]:
    """Image and caption of every row."""

    def read(manifest: Manifest) -> list[tuple[str, str | None]]:
        rows = manifest.rows.to_pylist()
        assert [row["row"] for row in rows] == list(range(len(rows)))
        return [(row["image"], row["caption"]) for row in rows]

    return read


@pytest.fixture
def labels() -> Callable[[Manifest], dict[str, list[str]]]:
    """Names of the classes of every image, by sample id."""

    def read(manifest: Manifest) -> dict[str, list[str]]:
        names = manifest.classes["name"].to_pylist()
        assert manifest.classes["class_id"].to_pylist() == list(range(len(names)))
        return {
            row["sample_id"]: [names[i] for i in row["label_ids"]]
            for row in manifest.rows.to_pylist()
        }

    return read
