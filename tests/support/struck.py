"""A command that sends itself a signal at a moment of its own work.

    python struck.py SIGTERM 71 sparc.train.data.reader:BatchReader.next_batch sparc.train.cli run …

Here when that method is called for the 71st time. Who waits for such a moment in another process
may be kept waiting by a busy machine until all is over.
"""

import functools
import importlib
import itertools
import os
import runpy
import signal
import sys
from pathlib import Path


def struck(sent: signal.Signals, call: int, method: str, module: str, *arguments: object) -> list:
    """The command line of a module that is struck in that call of a method, counted from 1."""
    words = (Path(__file__), sent.name, call, method, module, *arguments)
    return [sys.executable, *map(str, words)]


def _strike(sent: signal.Signals, call: int, method: str) -> None:
    module, _, names = method.partition(":")
    owner_name, _, name = names.partition(".")
    owner = getattr(importlib.import_module(module), owner_name)
    real, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(real)
    def counted(*arguments, **options):
        if next(calls) == call:
            os.kill(os.getpid(), sent)
        return real(*arguments, **options)

    setattr(owner, name, counted)


if __name__ == "__main__":
    sent, call, method, module, *arguments = sys.argv[1:]
    _strike(signal.Signals[sent], int(call), method)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
