"""That the server of the tests spoils what it says: tests under faults prove nothing otherwise."""

import http.client
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import s3fs
import zarr
from zarr.storage import FsspecStore

SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"
READ = """
import sys, fsspec
print(fsspec.open(sys.argv[1]).open().read().decode())
"""


def ask(url: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(url, method=method, headers={"Authorization": SIGNED})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_zarr_and_child_processes_ask_the_server(object_store, bucket) -> None:
    array = zarr.create_array(FsspecStore.from_url(f"{bucket}/z"), data=np.arange(5), chunks=(2,))
    assert array.attrs == {}
    again = zarr.open_array(FsspecStore.from_url(f"{bucket}/z", read_only=True))
    assert again[:].tolist() == [0, 1, 2, 3, 4]
    with object_store.counting() as counts:
        document = subprocess.run(
            [sys.executable, "-c", READ, f"{bucket}/z/zarr.json"], capture_output=True, text=True
        )
    assert '"zarr_format": 3' in document.stdout, document.stderr
    assert counts["GET"] == 1


def test_every_fault_is_one(object_store) -> None:
    url = f"{object_store.endpoint}/{object_store.bucket().removeprefix('s3://')}/object"
    whole = b"x" * 1000
    s3fs.S3FileSystem().pipe_file(url.removeprefix(f"{object_store.endpoint}/"), whole)
    for kind in ("dropped", "lost", "stalled"):
        with object_store.faults(**{kind: 1.0}, stall=0.1), pytest.raises(ConnectionError):
            ask(url)
    with (
        object_store.faults(truncated=1.0),
        pytest.raises(http.client.IncompleteRead) as cut,
    ):
        ask(url)
    assert cut.value.partial == whole[:500]
    with object_store.faults(short=1.0):
        assert ask(url) == (200, whole[:500])
    with object_store.faults(failed=1.0):
        assert ask(url)[0] in (500, 503)
    with object_store.faults(dropped=1.0, only="^DELETE "):
        assert ask(url) == (200, whole)
        with pytest.raises(ConnectionError):
            ask(url, "DELETE")
        assert ask(url)[0] == 200  # it was not carried out
    with object_store.faults(lost=1.0, only="^DELETE ", at_most=1):
        with pytest.raises(ConnectionError):
            ask(url, "DELETE")
        assert ask(url)[0] == 404  # it was
        assert ask(url, "DELETE")[0] == 204
        assert object_store.seen().faults == {"lost": 1}
        assert object_store.seen().operations == {"DELETE": 2, "GET": 1}


def test_a_seed_gives_the_same_faults(object_store, bucket) -> None:
    url = f"{object_store.endpoint}/{bucket.removeprefix('s3://')}/missing"

    def statuses() -> list[int]:
        with object_store.faults(failed=0.5, seed=3):
            return [ask(url)[0] for _ in range(20)]

    first = statuses()
    assert first == statuses()
    assert 404 in first
    assert first.count(404) < 20
