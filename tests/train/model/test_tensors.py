import errno

import pytest
import safetensors.torch
import torch

from sparc.common.errors import RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.train.model.tensors import read_tensors, write_tensors
from sparc.train.model.tensors_in_turn import TensorsInTurn, write_in_turn

TENSORS = {
    "weights": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "count": torch.tensor(7, dtype=torch.int64),
    "small": torch.ones(3, dtype=torch.bfloat16),
    "none": torch.empty(0, 4),
}
LARGEST = 1000
"""Bytes, more than the tensors above have."""


def test_tensors_come_back(tmp_path):
    write_tensors(Folder(tmp_path), "file", TENSORS, about={"k": 4})
    found = read_tensors(Folder(tmp_path), "file", largest=LARGEST, about={"k": 4})
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)
    with pytest.raises(RunError, match=r"file is damaged: .* do not fit its sha256"):
        read_tensors(Folder(tmp_path), "file", largest=LARGEST, about={"k": 5})


@pytest.mark.parametrize("about", [None, {"k": 4}])
def test_tensors_that_come_in_turn_make_the_same_file(tmp_path, about):
    """Byte for byte, whatever their types, also where no tensor but one exists at a time."""
    tensors = {
        "since.b": torch.arange(5),
        "a": torch.arange(3, dtype=torch.float64),
        "first.ä": torch.rand(4, 3)[:, 1:],
        "kept": torch.tensor([True]),
        "none": torch.empty(0, 4),
        "steps": torch.tensor(7),
    }
    write_tensors(Folder(tmp_path), "at once", tensors, about=about)
    layout = {name: x.to("meta") for name, x in tensors.items()}
    in_turn = TensorsInTurn(layout, ((name, tensors[name].clone()) for name in sorted(tensors)))
    write_in_turn(Folder(tmp_path), "in turn", in_turn, about=about)
    assert (tmp_path / "in turn").read_bytes() == (tmp_path / "at once").read_bytes()


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    write_tensors(Folder(tmp_path), "file", TENSORS)
    content = (tmp_path / "file").read_bytes()
    for place in range(len(content)):
        for bit in (0, 3, 5, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            (tmp_path / "file").write_bytes(damaged)
            try:
                found = read_tensors(Folder(tmp_path), "file", largest=LARGEST)
            except RunError as error:
                assert "is damaged" in str(error)  # noqa: PT017 - either this or equal tensors
            else:
                assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_a_file_of_another_program_is_read_unchecked(tmp_path):
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "file")
    assert read_tensors(Folder(tmp_path), "file", largest=LARGEST)["a"].tolist() == [1, 1]
    with pytest.raises(RunError, match="nothing is not there"):
        read_tensors(Folder(tmp_path), "nothing", largest=LARGEST)


def test_a_file_far_longer_than_its_tensors_is_refused_unread(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no place on the disk
    with pytest.raises(SparcError, match="file"):
        read_tensors(Folder(tmp_path), "file", largest=LARGEST)


def test_a_file_that_cannot_be_written_says_why(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_tensors(Folder(tmp_path), "file", {"a": torch.ones(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
