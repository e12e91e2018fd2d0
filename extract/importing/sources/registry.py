"""The formats of features made elsewhere, as `sparc-extract import --format` names them.

To add one, write a file in this folder with a subclass of `FeatureFile`, which says how `auto`
recognises it and which arrays it holds:

    class RawFile(FeatureFile):
        @classmethod
        def recognises(cls, path: Path) -> bool:
            return path.suffix == ".f32"

        def arrays(self) -> Mapping[str, FeatureArray]:
            values = np.memmap(self.path, "float32", "r").reshape(-1, 512)
            return {"": MappedArray(values)}

Then add a line to `FORMATS`, before those that recognise more:

    "raw": Entry("float32 of 512 values a row, .f32", f"{_HERE}.raw:RawFile"),

Names of rows, captions and labels that lie in the same file are its `columns`. Streams, alignment,
chunks and provenance are the same for all formats.

Every command line reads this module: it imports no format.
"""

from collections import ChainMap
from collections.abc import Collection

from sparc.common.registry import Entry

_HERE = "sparc.extract.importing.sources"

FORMATS: dict[str, Entry] = {
    "clip-retrieval": Entry(
        "a folder with img_emb, text_emb, metadata", f"{_HERE}.clip_retrieval:ClipRetrievalFolder"
    ),
    "lance": Entry("a Lance dataset with vectors", f"{_HERE}.lance:LanceFolder"),
    "parquet": Entry("Parquet with vectors, or a folder of it", f"{_HERE}.parquet:ParquetFiles"),
    "npy": Entry("a NumPy array, or a folder of them in order", f"{_HERE}.npy:NpyFiles"),
    "npz": Entry("NumPy arrays", f"{_HERE}.npz:NpzFile"),
    "hdf5": Entry("datasets of h5py, .h5", f"{_HERE}.hdf5:Hdf5File"),
    "torch": Entry("tensors of torch.save, .pt", f"{_HERE}.torch_file:TorchFile"),
    "safetensors": Entry("tensors", f"{_HERE}.safetensors_file:SafetensorsFile"),
}

AUTO = "auto"
"""Stands for the format that a file or folder shows."""

CHOICES: Collection[str] = ChainMap(FORMATS, {AUTO: Entry("", "")})
"""What `--format` may be: `AUTO`, and whatever is in `FORMATS` at the time."""
