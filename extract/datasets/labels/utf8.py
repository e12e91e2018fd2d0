"""A text file as UTF-8, for libraries that take nothing else and for files too large to hold."""

import codecs
import io
from typing import Any, BinaryIO


class Utf8(io.BufferedReader):
    """A text file as UTF-8 without byte order mark, whatever it is; bad bytes become U+FFFD.

    Args:
        file: UTF-8, or UTF-16 with a byte order mark.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._raw = _RawUtf8(file)
        super().__init__(self._raw, buffer_size=1 << 20)

    @property
    def was_replaced(self) -> bool:
        """Whether bytes had to be replaced so far."""
        return self._raw.was_replaced


class _RawUtf8(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        head = file.read(4)
        file.seek(0)
        is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        self._file = file
        self._is_utf8 = not is_utf16
        encoding = "utf-16" if is_utf16 else "utf-8-sig"
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._is_started = False
        self.was_replaced = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # A byte may become the three of U+FFFD, and up to three are waiting in the decoder.
        most = max(1, len(buffer) // 3 - 4)
        while True:
            data = self._file.read(most)
            is_plain = self._is_started and self._is_utf8 and not self._decoder.getstate()[0]
            if not (is_plain and data.isascii()):
                self._is_started = True
                text = self._decoder.decode(data, final=not data)
                self.was_replaced |= "\ufffd" in text
                encoded = text.encode()
            else:
                encoded = data
            if encoded or not data:
                buffer[: len(encoded)] = encoded
                return len(encoded)
