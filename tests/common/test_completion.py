"""TAB in a shell: what it offers, that it is harmless, and that nothing is seen of errors."""

import json
import os
import pty
import resource
import select
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.tables import CLASSES
from sparc.common.lazy import import_home
from sparc.pipelines.commands import STAGES

HOSTILE = ["$(touch caught)", "`touch caught`", "a;touch caught", "a\nb", "\x1b[31m", "a'b", 'a"b']
NAMES = ["bird", "birthday cake", *HOSTILE]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, a run and a report, each below a folder, and what is none."""
    root = tmp_path_factory.mktemp("artefacts")
    numbers = range(len(NAMES))
    nothing = [None] * len(NAMES)
    classes = {"class_id": numbers, "key": list(map(str, numbers)), "name": NAMES}
    classes |= {"parent_id": nothing, "depth": [1] * len(NAMES)}
    features = np.ones((4, 2), np.float32)
    write_arrays(
        root / "caches/test",
        {"image": features, "text": features},
        label_ids=[[0]] * 4,
        classes=pa.table(classes, schema=CLASSES),
    )
    _write(root / "runs/a/config.json", "sparc-run", model={"streams": [{"name": "dino"}]})
    _write(root / "runs/of-another-program/config.json", "bert", streams=["x"])
    report = root / "deep/er/report"
    _write(report / "report.json", "sparc-report", streams=["dino", *HOSTILE])
    document = json.loads((report / "report.json").read_text())
    document["cache"] = str(root / "caches/test")
    (report / "report.json").write_text(json.dumps(document))
    return root


def _write(path: Path, kind: str, **entries: object) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"format": kind, "version": 1, **entries}))


@pytest.fixture
def tab(folder, monkeypatch):
    """What a program answers a shell that asks for the last of the words."""
    monkeypatch.chdir(folder)

    def press(*words: str, shell: str = "bash", **changes: str) -> list[str]:
        program = words[0]
        variable = f"_{program}_COMPLETE".replace("-", "_").upper()
        asked = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
        if shell != "bash":
            asked = {"_TYPER_COMPLETE_ARGS": " ".join(words)}
        app = import_home(STAGES[program.removeprefix("sparc-")].home)
        asked |= {
            variable: f"complete_{shell}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            **changes,
        }
        done = CliRunner(env=asked).invoke(app, [], prog_name=program)
        assert not isinstance(done.exception, Exception)
        assert done.stderr == ""
        return done.stdout.splitlines()

    return press


def test_commands_options_and_their_choices_are_offered(tab):
    assert "concepts" in tab("sparc-analyze", "con")
    assert tab("sparc-train", "run", "x", "y", "--str") == ["--stream"]
    assert tab("sparc-train", "run", "x", "y", "--recipe", "al") == ["aligned"]
    assert tab("sparc-train", "run", "x", "y", "--recipe", "=", "al") == ["aligned"]
    assert "class-folders" in tab("sparc-extract", "run", "x", "y", "--format", "")
    assert "dinov2-clip-b" in tab("sparc-extract", "run", "x", "y", "--preset", "")


def test_artefacts_that_lie_nearby_are_offered_by_their_kind(tab):
    assert tab("sparc-extract", "inspect", "") == ["caches/test"]
    assert tab("sparc-analyze", "run", "r") == ["runs/a"]
    assert tab("sparc-analyze", "show", "deep/") == ["deep/er/report"]
    assert tab("sparc-train", "run", "caches/test", "z", "--start-from", "") == ["runs/a"]


def test_streams_are_those_of_the_artefact_that_is_typed(tab):
    assert tab("sparc-train", "run", "caches/test", "z", "--stream", "") == ["image", "text"]
    assert tab("sparc-train", "run", "caches/test", "z", "--stream", "=", "t") == ["text"]
    assert tab("sparc-train", "save", "runs/a", "z", "--stream", "") == ["dino"]
    assert tab("sparc-analyze", "concepts", "deep/er/report", "--only", "") == ["dino"]
    assert tab("sparc-train", "run", "nowhere", "z", "--stream", "") == []


def test_classes_are_those_of_the_cache_that_the_report_names(tab):
    report = ("concepts", "deep/er/report", "--class")
    assert tab("sparc-analyze", *report, "bird") == ["bird"]
    assert tab("sparc-analyze", *report, "birt") == ["birthday\\ cake"]
    assert tab("sparc-analyze", *report, "'birt") == ["birthday cake"]
    assert tab("sparc-analyze", *report, "") == ["bird", "birthday\\ cake"]
    bias = ("bias", "deep/er/report", "--attribute", "class", ":", "birt")
    assert tab("sparc-analyze", *bias) == ["birthday\\ cake"]


def test_bash_is_answered_in_the_words_that_it_divides(tab):
    spec = "vit_base_patch14_reg4_dinov2.lvd142m\\?size=224"
    for option in (["--stream"], ["--stream", "="]):
        words = ("sparc-extract", "run", "s3", ":", "//b/x", "y", *option, "a", "=", "timm", ":")
        assert spec in tab(*words)
        assert spec in tab(*words, "vit_b")
    assert f"a=timm:{spec.replace(chr(92), '')}" in tab(*words[:6], "--stream", "'a=timm:vit_b")
    assert tab(*words, "") == []  # after a space


def test_no_value_that_a_shell_would_run_is_offered_to_any(tab):
    line = ("sparc-analyze", "concepts", "deep/er/report")
    assert tab(*line, "--only", "", shell="fish") == ["dino"]
    assert tab(*line, "--class", "", shell="fish") == ["bird", "birthday cake"]
    zsh = "\n".join(tab(*line, "--class", "", shell="zsh"))
    assert "birthday cake" in zsh
    assert "touch" not in zsh


def test_what_cannot_be_read_offers_nothing_and_no_network_is_asked(tab, tmp_path, monkeypatch):
    asked = []
    others = set(threading.enumerate()) - {threading.current_thread()}

    def refusing(ask):
        def refuse(*arguments, **options):
            if threading.current_thread() in others:  # event loops that former tests have left
                return ask(*arguments, **options)
            asked.append(arguments)  # what is raised would be kept from the shell, as any error
            raise OSError

        return refuse

    monkeypatch.setattr(socket, "getaddrinfo", refusing(socket.getaddrinfo))
    monkeypatch.setattr(socket.socket, "connect", refusing(socket.socket.connect))
    for url in ("s3://bucket/cache", "http://127.0.0.1:9/x"):
        assert tab("sparc-train", "run", url, "z", "--stream", "") == []
        assert tab("sparc-extract", "inspect", url) == []
    assert asked == []
    strange = {
        "deep": b'{"a":' * 100_000,
        "list": b"[1]",
        "binary": b"\xff\x00",
        "wrong": b'{"streams": {"a": 1}}',
        "numbers": b'{"streams": [1, null, {"name": 3}]}',
        "long": b'{"streams": ["' + b"x" * (1 << 21) + b'"]}',
    }
    for name, content in strange.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cache.json").write_bytes(content)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/cache.json")  # which nobody writes to
    (tmp_path / "loop").symlink_to(tmp_path)
    for name in (*strange, "pipe", "loop"):
        assert tab("sparc-train", "run", str(tmp_path / name), "z", "--stream", "") == []
    assert tab("sparc-extract", "inspect", f"{tmp_path}/") == []
    assert tab("sparc-extract", "inspect", '"nowhere') == []
    assert tab("sparc-extract", "inspect", "", COMP_CWORD="no number") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_tab_in_bash_on_a_terminal(folder, tmp_path):
    """The script that typer has for bash, in a real one, for two of the programs."""
    programs = {"sparc-train": "sparc.train.cli:app", "sparc": "sparc.pipelines.commands:main"}
    for name, home in programs.items():
        module, _, function = home.partition(":")
        script = tmp_path / name
        script.write_text(f"#!{sys.executable}\nfrom {module} import {function}\n{function}()\n")
        script.chmod(0o755)
    rc = tmp_path / "rc"
    rc.write_text(
        f"PATH={tmp_path}:$PATH; cd {folder}; PS1='> '; bind 'set bell-style none'\n"
        '_SPARC_COMPLETE=source_bash; export _SPARC_COMPLETE; eval "$(sparc)"\n'
        '_SPARC_TRAIN_COMPLETE=source_bash; export _SPARC_TRAIN_COMPLETE; eval "$(sparc-train)"\n'
        "unset _SPARC_COMPLETE _SPARC_TRAIN_COMPLETE; stty cols 200; echo ready\n"
    )
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "--noprofile", "--rcfile", str(rc), "-i"])
    try:
        _read_until(terminal, "ready")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        os.write(terminal, b"sparc-train run caches/test z --stream=im\t")
        assert "Traceback" not in _read_until(terminal, "--stream=image ")
        os.write(terminal, b"\x15sparc analyze concepts deep/er/report --class birthd\t")
        _read_until(terminal, "--class birthday\\ cake ")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 5  # of four processes: 0.3 s each on a quiet machine


def _read_until(terminal: int, wanted: str) -> str:
    shown, end = "", time.monotonic() + 60
    while wanted not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        assert ready, f"{wanted!r} did not come: {shown!r}"
        shown += os.read(terminal, 1 << 16).decode(errors="replace")
    return shown
