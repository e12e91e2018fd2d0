"""Runs commands of SPARC in forks of a process that has imported everything.

Importing takes seconds, a fork none: that makes it cheap to disturb a command at many places. Each
line of standard input is an order in JSON, each line of standard output the status of the process
that carried it out, below zero for the signal that ended it, and the most memory that it took, in
kilobytes. Started by `conftest.py`, with the
library of `file_faults.c` loaded.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

COMMANDS = {
    "extract": "sparc.extract.cli",
    "train": "sparc.train.cli",
    "analyze": "sparc.analyze.cli",
    "pipeline": "sparc.pipelines.cli",
}
IMPORTED = (
    *COMMANDS.values(),
    "sparc.extract.job",
    "sparc.extract.datasets",
    "sparc.extract.encoders.timm.models",
    "sparc.extract.encoders.transformers.texts",
    "sparc.train.job",
    "sparc.analyze.run",
    "sparc.analyze.bias.command",
    "sparc.analyze.browse.build",
    "sparc.analyze.search.contact_sheet",
    "sparc.analyze.localize.maps",
    "sparc.analyze.localize.scores",
    "sparc.analyze.search.once",
    "sparc.analyze.name.word_list",
    "sparc.pipelines.demo.pipeline",
    "sparc.pipelines.published",
    "sparc.train.kernels.numba_kernels",
    "timm",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    # What libraries import where they first need it: Dask, pyarrow and transformers.
    "dask.layers",
    "distributed",
    "pandas",
    "scipy.optimize",
)


IMPORTED_BY_SOME = ("typer._adapters",)
"""Modules that not all releases of a library have."""


def main() -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    for module in IMPORTED_BY_SOME:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.freeze()  # the memory of what is imported stays shared
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            carry_out(order)
        _, status, usage = os.wait4(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n")
        sys.stdout.flush()


def carry_out(order: dict) -> NoReturn:
    """Run a command to its end, as if it had been typed."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        file = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    os.chdir(order["directory"])
    os.environ.update(order["environment"])
    if "LD_PRELOAD" in os.environ:
        ctypes.CDLL(None).read_settings()
    if "memory" in order:  # of address space, much of which is never used
        resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    signal.alarm(order["seconds"])  # a command that hangs is ended by this, with status -14
    stage, *arguments = order["command"]
    app = importlib.import_module(COMMANDS[stage]).app
    try:
        app(arguments, prog_name=f"sparc-{stage}")
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    # Taking the interpreter apart would take as long as importing.
    os._exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
