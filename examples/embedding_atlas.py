"""All latents as one table with pictures and places in a map, for Embedding Atlas.

    python examples/embedding_atlas.py latents.parquet
    embedding-atlas latents.parquet --image image --x x --y y    # pip install embedding-atlas

Latents that lie near each other write in like directions into all streams. The map needs
scikit-learn: `pip install 'sparc-sae[browse]'`.
"""

import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

import sparc

file = Path(sys.argv[1] if len(sys.argv) > 1 else "latents.parquet")
with tempfile.TemporaryDirectory() as folder:
    sparc.Report("demo").browse(Path(folder) / "site", export=file, size="2MB")

table = pq.read_table(file)
print(f"{file}: {table.num_rows} latents, each with {', '.join(table.column_names[:6])}, …")
