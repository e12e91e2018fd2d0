"""A trained model and what is known about it, wherever it lies."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sparc.common.config import to_mapping
from sparc.common.files.folder import Folder
from sparc.common.files.shipped import located
from sparc.common.streams.info import StreamInfo
from sparc.train.derive.history import History
from sparc.train.loading import load
from sparc.train.model.files import CONFIG_FILE, read_history
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import digest
from sparc.train.run.run_folder import RunRecord, absolute_location, is_run, load_initial


class Source(NamedTuple):
    """A trained model, and what is known about it."""

    location: str
    """Where it lies, in words that hold elsewhere too."""
    model: Sparc
    record: RunRecord | None
    """Of a run; None for a saved model."""
    initial: dict[str, Tensor] | None
    """The run's file of step 0, as `load_initial` reads it."""
    history: History

    def streams(self) -> Sequence[StreamInfo]:
        """The model's streams as the caches it learned from describe them, where that is known."""
        return self.history.streams if self.record is None else self.record.data.streams

    def digest(self) -> str:
        """Digest of configuration and weights."""
        return digest(self.model.state_dict(), about=to_mapping(self.model.config))


def open_source(location: str) -> Source:
    """Open a trained model: a run, a saved model or a hub repository.

    Raises:
        RunError: There is no such model.
    """
    location = located(location, "run")
    model = load(location)
    folder = Folder(location)
    if not folder.exists(CONFIG_FILE):  # a hub repository
        return Source(location, model, None, None, History())
    where = absolute_location(location)
    if is_run(folder):
        record = RunRecord.read(folder)
        return Source(where, model, record, load_initial(folder), record.history)
    return Source(where, model, None, None, read_history(folder))
