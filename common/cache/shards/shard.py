"""The share of a cache's chunks that one of several processes makes."""

import dataclasses
import re

from sparc.common.errors import ConfigError

_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclasses.dataclass(frozen=True, order=True)
class Shard:
    """One of `count` processes that make a cache together.

    Attributes:
        count: Into how many shards the chunks are divided.
        number: Which of them, from 1 on.
    """

    count: int
    number: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that `i/n` names.

        Raises:
            ConfigError: It does not follow that form, or `i` is not one of 1 to `n`.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigError(f"cannot read shard {text!r}: it must be i/n, such as 2/8")
        number, count = int(match[1]), int(match[2])
        if not 1 <= number <= count:
            raise ConfigError(
                f"there is no shard {text}: of n shards the first is 1/n and the last n/n"
            )
        return cls(count, number)

    @classmethod
    def of_chunk(cls, chunk: int, *, count: int, total: int) -> "Shard":
        """The shard, of a division into `count`, that a chunk of `total` belongs to."""
        return cls(count, -(-(chunk + 1) * count // total))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def chunks(self, total: int) -> range:
        """The chunks of this shard of a cache of `total` chunks: neighbours, as even as can be.

        Every chunk belongs to one shard of a division. A shard has none where there are more
        shards than chunks.
        """
        return range(
            (self.number - 1) * total // self.count,
            self.number * total // self.count,
        )
