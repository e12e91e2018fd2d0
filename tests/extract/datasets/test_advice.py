"""What is said of files that cannot be read works when it is typed."""

import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sparc.common.errors import DatasetError
from sparc.extract.datasets import DatasetOptions, open_dataset


def refusal(folder):
    with pytest.raises(DatasetError, match="cannot tell the format") as caught:
        open_dataset(folder, DatasetOptions())
    return str(caught.value)


def test_pixels_of_mnist_become_class_folders(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(bytes(16) + pixels.tobytes())
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(bytes(8) + bytes([5, 0, 5]))
    command = re.search(r'python -c "(.*?)" makes', refusal(tmp_path))
    subprocess.run([sys.executable, "-c", command[1]], cwd=tmp_path, check=True)
    names = sorted(str(path.relative_to(tmp_path / "mnist")) for path in tmp_path.rglob("*.png"))
    assert names == ["0/1.png", "5/0.png", "5/2.png"]
    with Image.open(tmp_path / "mnist/5/2.png") as image:
        np.testing.assert_array_equal(image, pixels[2])


def test_no_name_of_a_file_becomes_a_command(tmp_path):
    (tmp_path / "a');x=('-images-idx3-ubyte").touch()
    assert "python" not in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        (
            "cifar-10-batches-py/data_batch_1",
            r"torchvision.datasets.CIFAR10\('.'\).*cifar-10-batch",
        ),
        ("cifar-100-python/train", r"torchvision.datasets.CIFAR100\('.'\).*cifar-100-python lies"),
        ("anything", "save its content as images and JSON"),
        ("labels.mat", "--labels"),
    ],
)
def test_pickles_are_never_read(tmp_path, name, advice):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(pickle.dumps({"data": Evil()}))
    assert re.search(advice, refusal(tmp_path))
    assert not (tmp_path / "ran").exists()
