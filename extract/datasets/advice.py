"""What to do with files that no reader reads, and with a dataset that is a single file."""

import posixpath
import re
from collections.abc import Callable
from pathlib import PurePath

_PICKLE = "a pickle can run code, so it is not read: "
_CIFAR = (
    "python -c \"import os, torchvision; [(os.makedirs(f'cifar/{{c}}', exist_ok=True), "
    "i.save(f'cifar/{{c}}/{{n}}.png')) for n, (i, c) in "
    "enumerate(torchvision.datasets.{dataset}('.'))]\", where {folder} lies, makes a folder a class"
)
_MNIST = (
    "pixels of MNIST are no files of images: "
    'python -c "import os, numpy as np; from PIL import Image; '
    "x = np.fromfile('{images}', 'u1', offset=16).reshape(-1, 28, 28); "
    "y = np.fromfile('{labels}', 'u1', offset=8); "
    "[(os.makedirs(f'mnist/{{c}}', exist_ok=True), "
    "Image.fromarray(i).save(f'mnist/{{c}}/{{n}}.png')) "
    'for n, (i, c) in enumerate(zip(x, y))]" makes a folder a class'
)
_ADVICE = {
    (".zip",): "unpack it: it is read in place only where it is whole and no images lie beside it",
    (".7z", ".rar"): "unpack it",
    (".gz", ".tgz", ".xz", ".bz2", ".zst"): "decompress it",
    (".pkl", ".pickle", ".joblib"): f"{_PICKLE}save its content as Parquet or JSON",
    (".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5", ".safetensors"): (
        "features are read by sparc-extract import"
    ),
    (".mp4", ".avi", ".mov", ".mkv", ".webm"): (
        "take frames from it: mkdir NAME && ffmpeg -i NAME.mp4 -vf fps=1 NAME/frame_%05d.jpg"
    ),
    (".tfrecord", ".tfrecords", ".mdb", ".lmdb", ".rec", ".beton"): (
        "save its images as files, with captions in metadata.csv (file_name,text), or as Parquet"
    ),
    (".xlsx", ".xls", ".ods", ".yaml", ".yml", ".db", ".sqlite", ".sqlite3", ".feather", ".orc"): (
        "if it has captions or classes, save them as metadata.csv (file_name,text,label)"
    ),
    (".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef"): (
        "such pictures cannot be read: convert them to JPEG"
    ),
    (".mat",): (
        "python -c \"import scipy.io; print(scipy.io.loadmat('FILE.mat'))\" shows its labels: "
        "write them as a CSV of ImageID,LabelName and name it with --labels"
    ),
}
_BY_SUFFIX = {suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes}

_CIFAR_FOLDER = re.compile(r"cifar-(?P<classes>100?)-?(?:batches-py|python)")
_IDX = re.compile(r"(?P<part>(?!/)[\w/.-]*)-(?:images|labels)(?P<mark>[-.])idx[13]-ubyte", re.ASCII)
"""Only names that mean nothing to a shell or to Python: they are part of what a user types."""
_MARK, _OLDEST_PROTOCOL, _NEWEST_PROTOCOL = 0x80, 2, 5
"""How pickles begin, and the versions of those that do."""

_LABEL_STUDIO = re.compile(
    rb'"(?:annotator|completed_by|lead_time|annotation_id)"\s*:|"result"\s*:\s*\['
)
"""Keys that only exports of Label Studio have."""
_BOXES = re.compile(rb"\d+(?: -?[\d.]+){4,}\s*(?:\n|$)")

_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".json", ".parquet", ".pq")


def general_advice(file: str, head: Callable[[str, int], bytes]) -> str:
    """The advice for a file of no format; empty where there is none.

    Args:
        file: A path in the dataset.
        head: Gives the first bytes of a file: `SafeFolder.head`.
    """
    if idx := _IDX.fullmatch(file):
        part, mark = idx["part"], idx["mark"]
        return _MNIST.format(
            images=f"{part}-images{mark}idx3-ubyte", labels=f"{part}-labels{mark}idx1-ubyte"
        )
    if advice := _BY_SUFFIX.get(posixpath.splitext(file)[1].lower()):
        return advice
    if advice := _of_annotations(file, head):
        return advice
    mark, version, *_ = *head(file, 2), 0, 0
    if mark != _MARK or not _OLDEST_PROTOCOL <= version <= _NEWEST_PROTOCOL:
        return ""
    if cifar := _CIFAR_FOLDER.search(file):
        return _PICKLE + _CIFAR.format(dataset=f"CIFAR{cifar['classes']}", folder=cifar[0])
    return f"{_PICKLE}save its content as images and JSON"


def _of_annotations(file: str, head: Callable[[str, int], bytes]) -> str:
    """For the files of programs for annotation that have better exports."""
    suffix = posixpath.splitext(file)[1].lower()
    if suffix == ".xml" and b"<annotations" in head(file, 4096):
        return "export it from CVAT as COCO 1.0"
    if suffix == ".json" and _LABEL_STUDIO.search(head(file, 1 << 16)):
        return "export it from Label Studio as COCO or CSV"
    if suffix == ".txt" and _BOXES.match(head(file, 4096)):
        return "boxes of YOLO are not read: convert them to COCO"
    return ""


def advice_for_file(location: str) -> str:
    """What to type instead of a file that was given as a dataset.

    Args:
        location: The file.
    """
    path = PurePath(location)
    suffix, holder = path.suffix.lower(), str(path.parent)
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return (
            f"give the folder of the shards, {holder} (--format webdataset), or unpack it where it "
            f"holds a folder of images: tar -xf {path.name}"
        )
    if suffix in _TABLES:
        return f"give the folder of its images, and the file with --table: {holder} --table {path}"
    advice = _BY_SUFFIX.get(suffix, "")
    return advice or f"give the folder that holds the dataset: {holder}"
