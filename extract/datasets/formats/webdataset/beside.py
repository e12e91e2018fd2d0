"""Captions in the Parquet file beside a shard, which img2dataset writes with every one."""

from collections.abc import Mapping, Sequence, Set

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sparc.common.text import reason
from sparc.extract.datasets.account import Account
from sparc.extract.datasets.formats.webdataset.contents import CAPTION_KEYS
from sparc.extract.datasets.safe_folder import SafeFolder

_KEY = "key"


def captions_beside(
    folder: SafeFolder, account: Account, stem: str, keys: Set[str]
) -> Mapping[str, Sequence[str]]:
    """The captions of samples, by key, if there is such a file with the columns for them.

    Args:
        folder: The dataset.
        account: Where the file is entered.
        stem: The shard's path without suffix.
        keys: The samples that are wanted.
    """
    file = f"{stem}.parquet"
    if file not in folder.files:
        return {}
    try:
        with pq.ParquetFile(folder.path(file)) as parquet:
            names = {name.lower(): name for name in reversed(parquet.schema_arrow.names)}
            column = next((names[key] for key in CAPTION_KEYS if key in names), None)
            if _KEY not in names or column is None:
                account.uses(file, unused=parquet.schema_arrow.names)
                return {}
            table = parquet.read(columns=[names[_KEY], column])
            key_column = table.column(names[_KEY]).cast(pa.string())
            wanted = pc.is_in(key_column, pa.array(sorted(keys), pa.string()))
            texts = table.column(column).cast(pa.string()).filter(wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        account.omissions(file).add("file", "it is not readable as Parquet", reason(error))
        return {}
    unused = [name for name in names.values() if name not in (names[_KEY], column)]
    account.uses(file, used=(names[_KEY], column), unused=unused)
    pairs = zip(key_column.filter(wanted).to_pylist(), texts.to_pylist(), strict=True)
    return {key: (text,) for key, text in pairs if text}
