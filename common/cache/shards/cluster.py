"""Which job's workers may write chunks to a cache: a file that says so, as long as the job runs.

It shows a worker that its folder is the job's, and stops workers that go on when the job has ended.
`CACHE.md` section 6.3 is normative.
"""

import dataclasses

from sparc.common.cache.info import CLUSTER_FILE, SHARDS
from sparc.common.documents import DocumentKind, seal
from sparc.common.errors import CacheError
from sparc.common.files.folder import Folder

KIND = DocumentKind("sparc-cluster", 1, CacheError)


@dataclasses.dataclass(frozen=True)
class ClusterJob:
    """What the file says.

    Attributes:
        token: Drawn at random for each job.
    """

    token: str


def announce(folder: Folder, token: str) -> None:
    """Let the workers of a job write; those of any other stop. Hold the cache's lock meanwhile."""
    document = KIND.document(dataclasses.asdict(ClusterJob(token)))
    folder.write(CLUSTER_FILE, seal(document))


def withdraw(folder: Folder) -> None:
    """Let no worker write any more."""
    files = folder.files(SHARDS)
    ours = [file for file in files if file.startswith(CLUSTER_FILE)]  # and trials of dead workers
    for file in ours:
        folder.remove(file)
    if ours == files:
        folder.remove(SHARDS)


def is_announced(folder: Folder, token: str) -> bool:
    """Whether the workers of a job may write.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        content = folder.read(CLUSTER_FILE)
        return KIND.sealed(ClusterJob, content, where=CLUSTER_FILE).token == token
    except (FileNotFoundError, CacheError, ValueError):
        return False
