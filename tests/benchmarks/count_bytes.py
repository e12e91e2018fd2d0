"""Counts what the processes of a Dask cluster send; a preload of schedulers and workers.

    dask worker tcp://host:8786 --preload tests/benchmarks/count_bytes.py

Each process keeps a file in the folder that `COUNT_BYTES` names: its role and the bytes that it has
sent to the scheduler and to others. The client is run by this file, too, with its command's
arguments behind it: `python count_bytes.py run MODEL CACHE REPORT`.
"""

import json
import os
from pathlib import Path
from typing import Any

from distributed.comm.tcp import TCP

_SENT = {"scheduler": 0, "others": 0}


def begin(role: str) -> None:
    """Count from now on."""
    file = Path(os.environ["COUNT_BYTES"], f"{role}-{os.getpid()}.json")
    scheduler = os.environ["COUNT_BYTES_SCHEDULER"]
    write = TCP.write

    async def counting(self: TCP, *args: Any, **options: Any) -> Any:
        sent = await write(self, *args, **options)
        _SENT["scheduler" if self.peer_address == scheduler else "others"] += sent or 0
        file.write_text(json.dumps(_SENT))
        return sent

    TCP.write = counting


def dask_setup(service: Any) -> None:
    """Called by Dask where the file is a preload."""
    begin(type(service).__name__.lower())


if __name__ == "__main__":
    begin("client")
    from sparc.analyze.cli import app

    app()
