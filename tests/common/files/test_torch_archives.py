"""A file of PyTorch that is small and becomes large is refused wherever one is read."""

import io
import zipfile

import numpy as np
import pytest
import torch

from sparc.common.errors import UnsafeError
from sparc.common.files.torch_archives import require_stored
from sparc.extract.encoders.weights import load_weights
from sparc.train import ImportConfig, import_dictionary


@pytest.fixture
def packed(tmp_path):
    stored = io.BytesIO()
    torch.save({"encoder.weight": torch.zeros(500, 500)}, stored)
    path = tmp_path / "packed.pt"
    packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(stored) as source, packed as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert path.stat().st_size < 10_000
    assert torch.load(path, weights_only=True)["encoder.weight"].shape == (500, 500)
    return path


def test_compressed_tensors_are_not_unpacked(packed, tmp_path, call):
    with pytest.raises(UnsafeError, match=r"compressed tensors, which torch\.save does not write"):
        load_weights(packed)
    with pytest.raises(UnsafeError, match="compressed tensors"):
        import_dictionary(packed, tmp_path / "out", ImportConfig(stream="a"))
    done = call("extract", "import", packed, tmp_path / "cache")
    assert done.returncode == 2
    assert "holds compressed tensors" in done.stderr


def test_what_pytorch_writes_is_read(tmp_path):
    tensors = {"a": torch.arange(4.0)}
    torch.save(tensors, tmp_path / "new.pt")
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        np.testing.assert_array_equal(load_weights(tmp_path / name)["a"], tensors["a"])
    with (tmp_path / "new.pt").open("rb") as file:
        file.seek(3)
        require_stored(file, "it")
        assert file.tell() == 3
