"""Text that comes from datasets, made safe to show: it is data, never markup or control codes."""

from collections.abc import Iterator, Sequence

_HANGING = 4
"""By how much the rest of a line that is too long is indented."""


def printable(text: str) -> str:
    """Escape what is not printable, so that the text stays on one line and moves no cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Escape what is not printable but for line breaks; see `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def shorten(text: str, width: int) -> str:
    """Printable text of at most `width` characters, an ellipsis where it was cut."""
    shown = printable(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def folded(text: str, width: int) -> str:
    """Text whose lines are at most `width` characters, where words allow it.

    What a line has too much goes on below it, further to the right than it began, so that a row of
    a table is still one row to the eye.
    """
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> Iterator[str]:
    indent = min(len(line) - len(line.lstrip(" ")), width // 4)
    if len(line) > width:  # a heading of columns may begin far to the right
        line = line if line[:width].strip() else " " * indent + line.lstrip(" ")
    while len(line) > width:
        end = line.rfind("  ", max(indent + 1, width // 2), width + 1)  # between two columns
        if end < 0:
            end = line.rfind(" ", indent + 1, width + 1)
        if end < 0 or not line[:end].strip():
            break
        yield line[:end].rstrip(" ")
        line = " " * (indent + _HANGING) + line[end:].lstrip(" ")
    yield line


def reason(error: BaseException) -> str:
    """What another library says is wrong, on one line and not too long."""
    return shorten(" ".join(str(error).split()), 200) or type(error).__name__


def amount(number: int, noun: str) -> str:
    """A count with its noun in the right number: `1 row`, `5,733 rows`."""
    if number == 1:
        return f"1 {noun}"
    plural = noun + "es" if noun.endswith(("s", "x", "ch")) else noun + "s"
    return f"{number:,} {plural}"


def size(bytes: float) -> str:
    """A number of bytes in the unit that a person would choose."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if bytes < 1000:
            return f"{bytes:.0f} {unit}" if unit == "bytes" else f"{bytes:.1f} {unit}"
        bytes /= 1000
    return f"{bytes:.1f} TB"


def listed(names: Sequence[str], conjunction: str = "and") -> str:
    """Names as they are listed in a sentence: a, b and c."""
    *others, last = names
    return f"{', '.join(others)} {conjunction} {last}" if others else last
