"""An S3 server for tests and benchmarks: `object_store` and `bucket` are fixtures of all tests."""

import json
import os
import subprocess
import sys
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

SERVER = Path(__file__).with_name("object_store_server.py")


class Seen(NamedTuple):
    """What the server did since faults were last set.

    Attributes:
        operations: Requests, by GET, PUT, HEAD, DELETE, POST, and LIST.
        faults: Requests that were spoilt, by kind.
        log: The requests in order, such as `GET /bucket/cache/cache.json` or, spoilt,
            `PUT /bucket/cache/.lock !lost`.
    """

    operations: Counter[str]
    faults: Counter[str]
    log: list[str]


class ObjectStore:
    """A running server.

    Attributes:
        endpoint: Its URL.
        environment: What a process needs in its environment, so that s3fs and boto ask this server.
        process: The server's process.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: text for name, text in os.environ.items() if not name.startswith("AWS_")},
        )
        assert self.process.stdout is not None
        self.endpoint: str = json.loads(self.process.stdout.readline())
        self.environment: Mapping[str, str] = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """End the server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(20)

    def bucket(self) -> str:
        """The URL of a new, empty bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self._ask(f"/{name}", method="PUT")
        return f"s3://{name}"

    @contextmanager
    def faults(self, **faults: float | str | int | None) -> Iterator[None]:
        """Spoil a share of the requests, see `object_store_server.Faults`; counts begin at zero."""
        self._ask("/-/faults", faults, method="POST")
        try:
            yield
        finally:
            self._ask("/-/faults", {}, method="POST")

    @contextmanager
    def counting(self) -> Iterator[Counter[str]]:
        """Count requests by operation; the counter is filled at the end."""
        counts: Counter[str] = Counter()
        with self.faults():
            yield counts
            counts.update(self.seen().operations)

    def seen(self) -> Seen:
        """What the server did since faults were last set."""
        answer = json.loads(self._ask("/-/counts"))
        return Seen(Counter(answer["operations"]), Counter(answer["faults"]), answer["log"])

    def _ask(self, path: str, content: object = None, *, method: str = "GET") -> bytes:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.endpoint}{path}", data=body, method=method)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            return answer.read()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An S3 server that this process and its children ask from now on."""
    import s3fs

    store = ObjectStore()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, text in store.environment.items():
            patch.setenv(name, text)
        s3fs.S3FileSystem.clear_instance_cache()
        yield store
        s3fs.S3FileSystem.clear_instance_cache()
    store.close()


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    """The URL of a new, empty bucket, such as `s3://test-0123456789ab`."""
    return object_store.bucket()
