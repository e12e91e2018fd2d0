"""What to do with files that no reader reads, by their suffix."""

from sparc.extract.datasets.safe_folder import split_suffix

_ADVICE = {
    (".zip", ".7z", ".rar"): "unpack it",
    (".gz", ".tgz", ".xz", ".bz2", ".zst"): "decompress it",
    (".pkl", ".pickle", ".joblib"): (
        "a pickle can run code, so it is not read: save its content as Parquet or JSON"
    ),
    (".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5", ".safetensors"): (
        "features are read by sparc-extract import"
    ),
    (".heic", ".heif", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef"): (
        "such pictures cannot be read: convert them to JPEG"
    ),
    (".mat",): "save it as CSV, then name it with --labels",
}
_BY_SUFFIX = {suffix: advice for suffixes, advice in _ADVICE.items() for suffix in suffixes}


def general_advice(file: str) -> str:
    """The advice for a file of no format; empty where there is none.

    Args:
        file: A path in the dataset.
    """
    return _BY_SUFFIX.get(split_suffix(file)[1], "")
