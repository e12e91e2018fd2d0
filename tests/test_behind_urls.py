"""Everything behind URLs, on a server that drops and cuts requests: killed, resumed, the same.

Features become a cache, the cache a run, the run a report, here and behind a URL; then the files
are compared.
"""

import os
import re
import shlex
import signal
import subprocess
import uuid
from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from struck import struck

import sparc
from sparc.common.files.folder import Folder
from sparc.common.files.lock import LOCK_FILE
from sparc.common.files.remote.lease import SECONDS_VARIABLE
from sparc.train.run.run_folder import is_finished, saved_steps

TRAIN = (
    *("--latents=48", "--k=4", "--auxk=8", "--batch-size=32", "--steps=40", "--lr=0.01"),
    *("--checkpoint-every=8", "--log-every=4", "--device=cpu", "--align=none"),
)
ANALYZE = ("--no-untrained", "--no-permuted", "--device=cpu", "--scheduler=sync")


class Made(NamedTuple):
    """What the commands have made behind a URL, how far training was when it was killed, what was
    spoilt, and what the analysis said."""

    place: Folder
    killed_at: int
    faults: Counter[str]
    said: str


FAULTS = {"dropped": 0.006, "truncated": 0.006, "seed": 7}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    shared = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    np.save(folder / "one.npy", shared[:, :8])
    np.save(folder / "other.npy", shared[:, 4:])
    return folder


@pytest.fixture(scope="module")
def here(tmp_path_factory, features, call):
    """Cache, run and report on this machine."""
    place = tmp_path_factory.mktemp("here")
    for command in commands(features, place):
        done = call(*command)
        assert done.returncode == 0, done.stderr
    return Folder(place)


@pytest.fixture(scope="module")
def made(features, object_store, call):
    """The same in a bucket; training was killed, and many requests were spoilt."""
    place = Folder(object_store.bucket())
    extract, train, analyze = commands(features, place)
    with object_store.faults(**FAULTS):
        assert call(*extract).returncode == 0
        killed_at = kill_after_a_checkpoint(train, place.below("run"))
        for command in (train, analyze):
            done = call(*command)
            assert done.returncode == 0, done.stderr
        return Made(place, killed_at, object_store.seen().faults, done.stderr)


@pytest.fixture
def there(made):
    return made.place


def commands(features, place):
    return (
        ("extract", "import", features, f"{place}/cache", "--rows-per-chunk=128"),
        ("train", "run", f"{place}/cache", f"{place}/run", *TRAIN),
        ("analyze", "run", f"{place}/run", f"{place}/cache", f"{place}/report", *ANALYZE),
    )


def kill_after_a_checkpoint(command, run):
    """Begin a run that is killed in step 21; returns the step of the last checkpoint."""
    stage, *arguments = command
    next_batch = "sparc.train.data.reader:BatchReader.next_batch"
    done = subprocess.run(
        struck(signal.SIGKILL, 21, next_batch, f"sparc.{stage}.cli", *arguments),
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", SECONDS_VARIABLE: "1"},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not is_finished(run)
    assert run.exists(LOCK_FILE)
    return max(saved_steps(run))


def test_a_killed_run_is_that_of_this_machine(here, made):
    assert made.killed_at == 16
    assert min(made.faults["dropped"], made.faults["truncated"]) > 0
    run, local = made.place.below("run"), here.below("run")
    assert run.files() == local.files()
    for name in ("metrics.jsonl", "model.safetensors", "initial.safetensors"):
        assert run.read(name) == local.read(name), name
    last = f"checkpoints/step-{max(saved_steps(run)):09d}"
    assert run.read(f"{last}/learner.safetensors") == local.read(f"{last}/learner.safetensors")
    assert sparc.load(f"{run}/{last}").config == sparc.load(local.inside(last)).config


def test_its_report_is_that_of_this_machine(here, there):
    report, local = there.below("report"), here.below("report")
    assert report.files() == local.files()
    for name in local.files():
        if name.endswith(".parquet"):
            with report.open(name) as one, local.open(name) as other:  # which names its run
                assert pq.read_table(one).equals(pq.read_table(other)), name
        elif name not in ("report.json", "digests.json"):
            assert report.read(name) == local.read(name), name


def test_the_next_commands_that_it_names_can_be_typed(made, call):
    commands = [shlex.split(text) for text in re.findall("`(sparc-analyze .*?)`", made.said)]
    (_, *concepts), (_, *pages) = commands
    done = call("analyze", *concepts)
    assert done.returncode == 0, done.stderr
    assert pages[3:] == ["--run", f"{made.place}/run", "--cache", f"{made.place}/cache"]


def test_what_is_asked_of_it_is_answered_alike(here, there, call):
    def ask(place, *question):
        command, *more = question
        cache = f"--cache={place}/cache"
        done = call("analyze", command, f"{place}/report", *more, cache)
        assert done.returncode == 0, done.stderr
        return done.stdout.replace(str(place), "PLACE")

    for question in (("concepts", "--shared"), ("search", "--row=5", "--in=one")):
        assert ask(there, *question) == ask(here, *question)
    for name in ("shared.csv", "shared.parquet", "shared.parquet"):  # which is replaced
        ask(there, "concepts", "--shared", f"--out={there}/tables/{name}")
    with there.open("tables/shared.parquet") as file:
        assert pq.read_table(file)["latent"].to_pylist()
    there.write("tables/notes.csv", b"mine")
    asked = (f"{there}/report", f"--cache={there}/cache", f"--out={there}/tables/notes.csv")
    done = call("analyze", "concepts", *asked)
    assert "notes.csv exists and is not a CSV file" in done.stderr
    assert there.read("tables/notes.csv") == b"mine"
    index = "report/index"
    assert there.files(index) == here.files(index)
    site = f"{there}/site"
    options = ("--no-map", f"--cache={there}/cache", f"--run={there}/run")
    made = call("analyze", "browse", f"{there}/report", site, *options)
    assert made.returncode == 0, made.stderr
    assert {"index.html", "site.json"} <= set(Folder(site).entries())
    assert "is finished" in call("analyze", "browse", f"{there}/report", site, *options).stderr


def test_changed_models_and_sweeps_lie_behind_urls_too(here, call, tmp_path):
    (tmp_path / "grid.toml").write_text("k = [2, 4]\n")
    there = Folder(f"memory://{uuid.uuid4().hex}")
    for name in (*here.files("run"), *here.files("cache")):
        there.write(name, here.read(name))
    run, cache = f"{there}/run", f"{there}/cache"
    short = ("--batch-size=32", "--device=cpu", "--steps=4")
    for command in (
        ("align", run, cache, f"{there}/aligned", "--device=cpu"),
        ("save", run, f"{there}/saved", "--stream=one"),
        ("join", f"{there}/saved", cache, f"{there}/joined", "--stream=other", *short),
        ("run", cache, f"{there}/started", f"--start-from={there}/saved", *short),
        ("run", cache, f"{there}/sweep", f"--sweep={tmp_path}/grid.toml", "--latents=24", *short),
    ):
        done = call("train", *command)
        assert done.returncode == 0, done.stderr
    aligned = tmp_path / "aligned"
    assert call("train", "align", here.inside("run"), here.inside("cache"), aligned).returncode == 0
    for name in ("model.safetensors", "initial.safetensors"):
        assert Folder(aligned).read(name) == there.read(f"aligned/{name}")
    assert "2 runs, 2 finished" in call("train", "inspect", f"{there}/sweep").stdout


def test_what_stays_on_this_machine_says_so(there, call):
    for command in (
        ("train", "export", f"{there}/run", f"{there}/exported"),
        ("train", "import", f"{there}/dictionary.pt", f"{there}/imported"),
        ("analyze", "localize", f"{there}/run", f"--out={there}/maps", "--latent=1", "x.png"),
        ("analyze", "compare", f"{there}/report", f"--summary={there}/summary.md"),
        ("train", "run", f"{there}/cache", f"{there}/other", "--tensorboard", *TRAIN),
    ):
        done = call(*command)
        assert done.returncode == 2
        shown = " ".join(done.stderr.split())
        assert f"must be on this machine, not behind a URL ({there}/" in shown
    for taken in ("run/inside", "report/inside/deeper"):
        done = call("train", "save", f"{there}/run", f"{there}/{taken}")
        assert done.returncode == 2
        assert f"lies inside {there}/{taken.partition('/')[0]}" in done.stderr
    wanted = {
        "cache",
        "run",
        "report",
        "site",
        "aligned",
        "saved",
        "joined",
        "started",
        "sweep",
        "tables",
    }
    assert set(there.entries()) <= wanted
