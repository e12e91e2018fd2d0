"""What threads do, in words that all commands share."""

from enum import StrEnum


class Phase(StrEnum):
    """What a thread is doing at a moment.

    The three kinds of waiting differ in what helps. A thread whose work is scarce, such as one that
    feeds a GPU, is starved or blocked; one that helps it is idle. On a GPU, work is launched and
    finishes later: a phase holds the time in which its thread launched work or waited for the
    device, and nothing is synchronized to measure it.
    """

    READ = "read"
    """Bytes from a disk or a server, and what makes values of them."""
    DECODE = "decode"
    """Pictures of bytes."""
    PREPARE = "prepare"
    """What an encoder takes of a picture: scaled, cropped, normalized; and thumbnails."""
    PICK = "pick"
    """Rows of a batch out of those in memory."""
    TRANSFER = "transfer"
    """To a device."""
    ENCODE = "encode"
    """Forward passes, of encoders or of a dictionary."""
    STEP = "step"
    """Training steps: selection, gradients and update."""
    EXCHANGE = "exchange"
    """Between processes; waiting for the slowest of them is part of it."""
    ALIGN = "align"
    """Refitting encoders during training."""
    VALIDATE = "validate"
    """Measuring on the validation cache."""
    SAVE = "save"
    """Checkpoints and weights."""
    MEASURE = "measure"
    """Tables of a report."""
    WRITE = "write"
    """To the cache or the report."""
    STARVED = "starved"
    """Waiting for what the thread works on: whoever makes that is too slow."""
    BLOCKED = "blocked"
    """Waiting to hand over what the thread made: whoever takes that is too slow."""
    IDLE = "idle"
    """A helper without work: others are slower."""
    OTHER = "other"
    """What is not measured by itself."""


class Role(StrEnum):
    """What a thread is there for."""

    ENCODER = "encoder"
    """Runs encoders on a device."""
    LOADER = "loader"
    """Reads, decodes and prepares images for encoders."""
    WRITER = "writer"
    """Writes a cache, or the codes of a report."""
    IMPORTER = "importer"
    """Reads features made elsewhere and writes them."""
    TRAINER = "trainer"
    """Makes the steps of a process."""
    READER = "reader"
    """Reads chunks of a cache."""
    PICKER = "picker"
    """Picks the rows of batches ahead of the trainer."""
    CODER = "coder"
    """Computes the codes of a report."""
    ANALYZER = "analyzer"
    """Makes the tables of a report, one after the other."""
    MEASURER = "measurer"
    """Reads parts of codes and measures them for tables, here or on a cluster's worker."""
