"""What a TAB costs: CPU seconds of the process that a shell starts for it, and what it answers.

    python tests/benchmarks/bench_completion.py DEMO [--rounds 5]

DEMO is the folder of a finished `sparc-pipeline demo`. Bash asks for it all; the scripts of the
commands are those beside this Python.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

TYPED = (
    ("sparc", "an"),
    ("sparc-analyze", ""),
    ("sparc-analyze", "show", ""),
    ("sparc-analyze", "concepts", "reports/sparc", "--class", "b"),
    ("sparc-analyze", "search", "reports/sparc", "--in", ""),
    ("sparc-train", "run", "caches/train", "run", "--stream", ""),
    ("sparc-train", "run", "caches/train", "run", "--recipe", ""),
    ("sparc-extract", "run", "scenes", "cache", "--stream", "dino", "=", "timm", ":"),
)


def answer(words: tuple[str, ...], folder: Path) -> tuple[float, list[str]]:
    """CPU seconds of a TAB behind these words, as bash divides them, and what is offered."""
    variable = f"_{words[0]}_COMPLETE".replace("-", "_").upper()
    asked = {variable: "complete_bash", "COMP_WORDS": "\n".join(words)}
    asked["COMP_CWORD"] = str(len(words) - 1)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [Path(sys.executable).parent / words[0]],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **asked},
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert not done.stderr, done.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    for words in TYPED:
        answers = [answer(words, given.demo) for _ in range(given.rounds)]
        seconds = statistics.median(seconds for seconds, _ in answers)
        offered = answers[0][1]
        print(f"{seconds:.2f} s  {' '.join(words)}▮  {len(offered)}: {', '.join(offered[:3])}, …")


if __name__ == "__main__":
    main()
