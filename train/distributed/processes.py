"""Several processes that train one model, every process with its part of each batch.

Started by `torchrun --nproc-per-node 2 -m sparc.train.cli run CACHE RUN`. Either all processes hold
the same weights and make the same step, for which they exchange what their rows contribute to the
gradients (`gather`), or each holds the weights of some latents (`sparc.train.step.by_latents`).
Only the first process writes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed
from torch import Tensor

from sparc.common.errors import LostProcessError, SparcError, Terminated
from sparc.common.text import shorten
from sparc.common.timing.phases import Phase
from sparc.common.timing.stopwatch import during
from sparc.train.distributed.joining import join

TIMEOUT = timedelta(days=7)
"""The others wait in an exchange while the first process validates or reads checkpoints, which may
take long. Nobody waits so long for one that has died: its connections end with it."""

all_gather: Callable[..., Any] = getattr(
    torch.distributed, "all_gather_single", torch.distributed.all_gather_into_tensor
)
"""Joins the tensors of all processes; arguments as of `all_gather_into_tensor`, the name that torch
2.14 warns of."""


class Processes(NamedTuple):
    """This process among those that train one model.

    Attributes:
        rank: Which one it is; the first, 0, writes.
        world: Number of processes.
        device: Where this process trains.
        hosts: The machine of each process.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    hosts: tuple[str, ...] = ()

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.rank == 0

    def on(self, device: torch.device) -> "Processes":
        """The same on a device, which becomes CUDA's current one."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return self._replace(device=device)

    @contextmanager
    def refusing_together(self) -> Iterator[None]:
        """Let what one process refuses end all of them, in one line that names the machine.

        Raises:
            SparcError: Some process refuses; raised in the first process.
            SystemExit: Likewise, in the others, which leave the word to the first.
        """
        if self.world == 1:
            yield
            return
        refusal: SparcError | None = None
        try:
            yield
        except SparcError as error:
            refusal = error
        problem = "" if refusal is None else str(refusal)
        said = [text.decode() for text in gather_bytes(self.gather, problem.encode())]
        if not any(said):
            return
        if not self.is_first:
            raise SystemExit(2)
        if refusal is not None and len({*said}) == 1:
            raise refusal
        rank = next(rank for rank, text in enumerate(said) if text)
        raise SparcError(f"process {rank + 1} of {self.world}, on {self.hosts[rank]}: {said[rank]}")

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of the batch, in every process.

        Args:
            rows: (rows, …), of the same shape in every process.
        """
        if self.world == 1:
            return rows
        shape = (self.world * rows.shape[0], *rows.shape[1:])
        result = torch.empty(shape, dtype=rows.dtype, device=rows.device)
        with naming_lost_ones():
            all_gather(result, rows.contiguous())
        return result

    def swap(self, parts: Tensor) -> Tensor:
        """Part p of every process goes to process p.

        Args:
            parts: (processes, …), of the same shape in every process.

        Returns:
            What each process had for this one, in the order of ranks, (processes, …).
        """
        if self.world == 1:
            return parts
        given = parts.contiguous()
        result = torch.empty_like(given)
        with naming_lost_ones():
            torch.distributed.all_to_all_single(result, given)
        return result

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes of a tensor of one shape, in every process."""
        if self.world == 1:
            return values
        # Gathered and then added in the order of ranks: the same bits everywhere, every time.
        return self.gather(values.unsqueeze(0)).sum(0)

    def copy_from_first(self, tensor: Tensor) -> None:
        """Set a tensor, in place, to what the first process has; every process waits for it."""
        if self.world > 1:
            with naming_lost_ones():
                torch.distributed.broadcast(tensor.detach(), 0)

    def from_first(self, value: int) -> int:
        """What the first process says; every process waits for it."""
        return int(self.gather(torch.tensor([value], device=self.device))[0])

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.world > 1:
            with naming_lost_ones():
                torch.distributed.barrier()


def gather_bytes(gather: Callable[[Tensor], Tensor], content: bytes) -> list[bytes]:
    """What every process says, in the order of ranks, in every process.

    Args:
        gather: Joins the rows of all processes, which lie in main memory.
        content: What this process says.
    """
    lengths = gather(torch.tensor([len(content)])).tolist()
    padded = torch.zeros(1, max(1, *lengths), dtype=torch.uint8)
    padded[0, : len(content)] = torch.tensor(list(content), dtype=torch.uint8)
    said = gather(padded)
    return [said[rank, :length].numpy().tobytes() for rank, length in enumerate(lengths)]


@contextmanager
def naming_lost_ones() -> Iterator[None]:
    """Let an exchange with a process that is gone end in one line, and measure its time.

    Raises:
        LostProcessError: Another process ended, or cannot be reached.
    """
    try:
        with during(Phase.EXCHANGE):
            yield
    except RuntimeError as error:
        # Gloo's errors have no type of their own, but begin with the place in its source.
        place, _, what = str(error).rpartition("] ")
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in place:
            raise
        what = shorten(" ".join(what.partition(". ")[0].split()), 120)
        raise LostProcessError(
            f"another process of this training ended or cannot be reached ({what}); what was saved "
            "last is kept: the same command goes on from there"
        ) from error


def local_rank() -> int:
    """The number of this process on its machine, which is that of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first_process() -> bool:
    """Whether this is the first, or the only, process that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes `torchrun` started; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the processes that `torchrun` started; one process where it did not.

    They compute on a CPU until `Processes.on` names a device.

    Raises:
        LostProcessError: Not all of them begin.
    """
    world = world_size()
    if world == 1:
        yield Processes()
        return
    store, rank, hosts = join()
    # Gloo for what lies in main memory.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with naming_lost_ones():
        torch.distributed.init_process_group(
            backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT
        )
    try:
        yield Processes(rank, world, hosts=hosts)
    except KeyboardInterrupt as interruption:
        if rank == 0:
            raise
        # The first process speaks for all.
        raise SystemExit(143 if isinstance(interruption, Terminated) else 130) from None
    finally:
        _leave()


def _leave() -> None:
    """Leave the others.

    Until PyTorch 2.6 a group waits for its threads while it holds the interpreter's lock, for which
    one of them waits that lets go of a tensor. The backend, if it outlives the group, does not.
    """
    group = torch.distributed.group.WORLD
    assert group is not None
    backend = group._get_backend(torch.device("cpu"))
    del group
    torch.distributed.destroy_process_group()
    del backend
