"""What happens when TAB is pressed: the shell calls the command, which prints what may follow.

Typer speaks with the shells. Here is what it leaves open: values from `Suggest`, which may come
from anybody's artefact and become a part of a command line; bash, which divides words at `=` and
`:`; and that nothing may be seen of an error, since there is a half-typed command on the line.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import NamedTuple

import typer

from sparc.common.config import Suggest

MOST = 200
"""Values that are offered at most: more than a screen of them help nobody."""

_HARMLESS = re.compile(r"[\w ~.,:=+@%/#?()&-]+")
"""Values that are offered. What quotes, expands or ends a command never gets into a command line:
shells are not equally careful with it."""

_PLAIN = re.compile(r"[^\w~.,:=+@%/-]")
"""What bash has to be shown with a backslash, of that."""


def autocompletion(suggest: Suggest) -> Callable[[typer.Context, str], list[str]]:
    """What typer takes for it: values that begin as typed, harmless ones."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        offered: list[str] = []
        with suppress(Exception):
            for value in suggest(ctx.params, incomplete):
                if value.startswith(incomplete) and _HARMLESS.fullmatch(value):
                    offered.append(value)
                if len(offered) == MOST:
                    break
        return offered

    return complete


@contextmanager
def answering_shell(variable: str) -> Iterator[None]:
    """Hold while typer looks whether a shell asks, and answers it: then nothing is seen of errors.

    Args:
        variable: The environment variable in which a shell says what it wants.
    """
    wanted = os.environ.get(variable, "")
    if not wanted.startswith("complete_"):
        yield
        return
    status = 1
    with _no_standard_error():
        try:
            if wanted == "complete_bash":
                with _in_words_of_bash():
                    yield
            else:
                yield
        except SystemExit as ended:  # how typer ends, having answered
            status = ended.code if isinstance(ended.code, int) else 0
        except (Exception, KeyboardInterrupt):
            pass
        sys.stdout.flush()
        if sys.stdout is sys.__stdout__:
            # Threads of libraries that have just begun may abort a process that winds up.
            os._exit(status)
    raise SystemExit(status)


@contextmanager
def _in_words_of_bash() -> Iterator[None]:
    """Hold while bash is answered."""
    word = _take_bash_words(os.environ)
    answer = io.StringIO()
    try:
        with redirect_stdout(answer):
            yield
    finally:
        offered = map(word.offered, answer.getvalue().splitlines())
        sys.stdout.write("".join(f"{value}\n" for value in offered if value is not None))


class BashWord(NamedTuple):
    """The word at the cursor, as bash sees it.

    Attributes:
        cut: The part of what is typed that belongs to words before it.
        is_quoted: Whether a quotation mark begins it.
    """

    cut: str
    is_quoted: bool

    def offered(self, value: str) -> str | None:
        """A value as bash has to be given it; None where that is not possible."""
        option, _, beginning = self.cut.partition("=")
        value = value.removeprefix(beginning if option.startswith("-") else self.cut)
        if not value:  # all of it is typed
            return None
        if self.is_quoted:
            return value if _HARMLESS.fullmatch(value) else None
        return _PLAIN.sub(r"\\\g<0>", value)


def _take_bash_words(environment: MutableMapping[str, str]) -> BashWord:
    """Put the words together that bash divided at `=` and `:`, up to the one at the cursor.

    Bash says `dino`, `=`, `timm`, `:`, `vi` of `dino=timm:vi`, and puts what is offered in the
    place of `vi`.

    Args:
        environment: `COMP_WORDS`, a line each, and `COMP_CWORD`, the number of the word at the
            cursor; both are replaced.
    """
    last = int(environment["COMP_CWORD"])
    divided = environment["COMP_WORDS"].split("\n")[: last + 1]
    words: list[str] = []
    joins = False
    for word in divided:
        divides = bool(word) and not word.strip("=:")
        if words and word and (divides or joins):
            words[-1] += word
        else:
            words.append(word)
        joins = divides
    current = divided[-1]
    own = "" if joins else current
    environment["COMP_WORDS"] = "\n".join(words)
    environment["COMP_CWORD"] = str(len(words) - 1)
    return BashWord(words[-1].removesuffix(own), current.startswith(("'", '"')))


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Hold while nothing that is written to standard error is seen, of libraries either."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
