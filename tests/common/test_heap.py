"""In processes of their own: what is set holds for the whole process."""

import subprocess
import sys

import pytest

# Four threads at once fill and free memory in pieces that the C library does not map one by one.
PROGRAM = """
import ctypes, sys, threading
from pathlib import Path
import numpy as np
import pyarrow  # what give_back imports is not to count
from sparc.common import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

def heaps(file):
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    stream = ctypes.c_void_p(library.fopen(str(file).encode(), b"w"))
    library.malloc_info(0, stream)
    library.fclose(stream)
    return Path(file).read_text().count("<heap nr=")

def work():
    together.wait()
    pieces = [np.ones(50_000, np.uint8) for _ in range(400)]
    together.wait()
    keep.append(np.ones(1000, np.uint8))  # a heap does not shrink below what is in use

keep, together = [], threading.Barrier(4)
if sys.argv[2] == "shared":
    heap.share()
before, begun = resident(), heaps(sys.argv[1])
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
grown = heaps(sys.argv[1]) - begun
heap.give_back()
print(grown, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_threads_share_a_heap_and_what_is_free_is_given_back(tmp_path):
    counts = {}
    for kind in ("shared", "separate"):
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "info.xml"), kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        begun, left = done.stdout.split()
        counts[kind] = int(begun)
        assert float(left) < 10  # MB, of 80
    assert counts["shared"] == 0 < counts["separate"]


# The heap takes arrays of any size, as it does after a while; small ones hold large ones there.
LARGE_ARRAYS = """
import ctypes, sys
from pathlib import Path
import numpy as np
from sparc.common import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

ctypes.CDLL(None).mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD
if sys.argv[1] == "separate":
    heap.map_large_arrays()
before, large, small = resident(), [], []
for _ in range(10):
    large.append(np.ones(8 << 20, np.uint8))
    small.append(np.ones(100_000, np.uint8))
large.clear()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_large_arrays_leave_no_holes():
    left = {}
    for kind in ("separate", "together"):
        command = [sys.executable, "-c", LARGE_ARRAYS, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        left[kind] = float(done.stdout)
    assert left["separate"] < 10 < 60 < left["together"]  # MB, of 84


# Another thread, as encoders run in, makes the same arrays several times.
REPEATED = """
import resource, sys, threading
from sparc.common import heap

def work():
    for _ in range(8):
        b"1" * (40 << 20)

heap.keep_large_arrays()
if sys.argv[1] == "mapped":
    heap.map_large_arrays()  # the later call holds
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=work)
thread.start()
thread.join()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize() / 1e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc, on Linux")
def test_large_arrays_take_the_memory_of_those_before():
    cleared = {}
    for kind in ("kept", "mapped"):
        command = [sys.executable, "-c", REPEATED, kind]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cleared[kind] = float(done.stdout)
    assert cleared["kept"] < 60 < 300 < cleared["mapped"]  # MB, of 42 and 336
