"""The recipes of docs/CLUSTERS.md, followed as far as a machine without a cluster can."""

import ast
import importlib
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.reader import ActivationCache
from sparc.common.cache.verify import verify
from sparc.common.files.folder import Folder
from sparc.extract.config import ExtractConfig
from sparc.pipelines.demo.dataset import SceneSettings, write_scenes
from sparc.train.data.planted import plant
from sparc.train.run.run_folder import RunRecord

PAGE = (Path(__file__).parents[1] / "docs" / "CLUSTERS.md").read_text(encoding="utf-8")
BASH = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

SBATCH = """#!/bin/bash
# Stands for Slurm: what is submitted runs at once, the tasks of an array one after the other.
while [[ $1 == --* ]]; do
  case $1 in
    --array=*) tasks=${1#--array=} ;;
    --wrap) exec bash -c "$2" >&2 ;;
  esac
  shift
done
for task in $(seq "${tasks%-*}" "${tasks#*-}"); do
  SLURM_ARRAY_TASK_ID=$task bash "$@" >&2 || echo "task $task failed" >&2
done
echo 7
"""


SRUN = """#!/bin/bash
# Stands for the nodes of a job: the command runs on all of them at once.
while [[ $1 == --* ]]; do shift; done
for node in $(seq "${SLURM_NNODES:-1}"); do
  "$@" &
done
status=0
for node in $(seq "${SLURM_NNODES:-1}"); do
  wait -n || status=$?
done
exit $status
"""


def block(text: str) -> str:
    (only,) = [block for block in BASH if text in block]
    return only


def job_of(name: str) -> dict[str, Any]:
    """The indexed Job of Kubernetes of that name."""
    documents = [document for text in YAML for document in yaml.safe_load_all(text)]
    (job,) = [
        d for d in documents if d["spec"].get("completions") and d["metadata"]["name"] == name
    ]
    return job


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Run a script where `sbatch`, `srun` and `sparc-extract` are commands."""
    bin = tmp_path_factory.mktemp("bin")
    commands = {
        "sbatch": SBATCH,
        "srun": SRUN,
        "scontrol": "#!/bin/sh\necho localhost\n",
        "torchrun": f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n',
        "sparc-extract": f'#!/bin/sh\nexec {sys.executable} -m sparc.extract.cli "$@"\n',
    }
    for name, content in commands.items():
        (bin / name).write_text(content)
        (bin / name).chmod(0o755)

    def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        offline = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        path = f"{bin}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            env={**os.environ, **offline, "PATH": path, **variables},
            cwd=bin,
        )

    (bin / "extract.sbatch").write_text(block("--job-name=sparc-extract"))
    return run


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(folder, SceneSettings(train=1, test=12))
    return folder


@pytest.mark.parametrize("script", BASH)
def test_every_script_is_one_that_a_shell_can_read(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_array_and_what_follows_it_leave_a_finished_cache(
    shell, scenes, tiny_streams, tmp_path, call
) -> None:
    options = f"'{tiny_streams[0]}' --format=coco --split=test --rows-per-chunk=8 --device=cpu"
    lines = block("sbatch --parsable --array").replace("--preset dinov2-clip-b", options)
    submit = re.sub(r"(?m)^export .*$", 'export DATASET="$1" CACHE="$2" SHARDS=2', lines)
    assert submit.count(options) == 1
    cache = tmp_path / "cache"
    done = shell(f"set -- {scenes} {cache}\n{submit}")
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr
    first, last = re.findall(r"^shard \d/2: .*$", done.stderr, re.MULTILINE)
    assert f"{cache} is not finished:" in first
    assert re.search(r"^  left +1 shard, 2/2, of which chunks are missing", done.stderr, re.M)
    assert f"{cache} holds" in last
    assert f"\n{cache} holds" in done.stderr, "what `finish` says"
    assert list(verify(ActivationCache(cache))) == []
    assert not (cache / "shards").exists()
    plain = ("run", scenes, tmp_path / "whole", *options.replace("'", "").split())
    assert call("extract", *plain).returncode == 0
    for path in (tmp_path / "whole").rglob("*"):
        made = cache / path.relative_to(tmp_path / "whole")
        assert path.is_dir() or path.read_bytes() == made.read_bytes(), path


def test_a_task_that_is_missing_is_named_by_all_that_look(
    shell, scenes, tiny_streams, tmp_path, call
) -> None:
    cache = tmp_path / "cache"
    options = ("--format=coco", "--split=test", "--rows-per-chunk=8", "--device=cpu")
    made = call("extract", "run", scenes, cache, tiny_streams[0], *options, "--shard=2/3")
    assert made.returncode == 0, made.stderr
    left = "left      2 shards, 1/3, 3/3, of which chunks are missing: run them\n"
    assert f"  {left}" in call("extract", "inspect", cache).stdout
    checked = call("extract", "verify", cache)
    assert checked.returncode == 2
    assert left in checked.stdout
    assert re.search(r"is not finished: \d+ chunks not written yet, no damage", checked.stderr)
    refused = call("extract", "finish", cache)
    assert refused.returncode == 2
    assert "stream vit lacks" in refused.stderr
    assert f"`sparc-extract inspect {cache}` names" in refused.stderr
    first = ("run", scenes, cache, tiny_streams[0], *options, "--shard=1/3")
    planned = call("extract", *first, "--dry-run").stdout
    assert re.search(
        r"^shard     1/3: \d+ chunks? of \d+; what follows is of all rows$", planned, re.M
    )
    assert call("extract", *first).returncode == 0
    again = call("extract", "run", scenes, cache, tiny_streams[0], *options, "--shard=3/3")
    assert again.returncode == 0, again.stderr
    assert "shard 3/3: " in again.stderr
    assert f"{cache} holds " in again.stderr
    assert call("extract", "verify", cache).returncode == 0


def test_a_pod_makes_the_shard_behind_its_index(shell, tmp_path) -> None:
    spec = job_of("sparc-extract")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    (script,) = container["args"]
    said = [
        shell(script.replace("exec sparc-extract", "echo"), JOB_COMPLETION_INDEX=str(i)).stdout
        for i in range(spec["completions"])
    ]
    assert [line.split()[-1] for line in said] == [f"{i}/8" for i in range(1, 9)]


# ---------------------------------------------------------------------- Dask


def require_options_of_dask(command: Sequence[str]) -> None:
    """Fail unless Dask's own command line takes these arguments."""
    distributed = pytest.importorskip("distributed.cli")
    kind, *arguments = command
    module = importlib.import_module(f"{distributed.__name__}.dask_{kind}")
    module.main.make_context(kind, list(arguments))


def test_dask_knows_the_options_of_all_that_is_started_by_hand() -> None:
    started = [
        shlex.split(line, comments=True)
        for line in block("dask scheduler").splitlines()
        if "dask cuda" not in line  # of dask-cuda, which needs a GPU
    ]
    commands = [words[words.index("dask") + 1 :] for words in started]
    assert [command[0] for command in commands] == ["scheduler", "worker", "worker"]
    for command in commands:
        require_options_of_dask(command)


def test_slurm_is_asked_for_workers_that_dask_can_start() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    calls = {
        ast.unparse(node.func): node
        for node in ast.walk(ast.parse(script))
        if isinstance(node, ast.Call)
    }
    asked = {k.arg: ast.literal_eval(k.value) for k in calls["SLURMCluster"].keywords}
    with jobqueue.SLURMCluster(
        **asked, scheduler_options={"host": "127.0.0.1", "dashboard_address": ":0"}
    ) as cluster:
        job = cluster.job_script()
    assert subprocess.run(["bash", "-n"], input=job, text=True).returncode == 0
    assert {"#SBATCH --cpus-per-task=16", "#SBATCH --gres=gpu:1"} <= set(job.splitlines())
    (line,) = [line for line in job.splitlines() if "distributed.cli.dask_worker" in line]
    command = shlex.split(line)
    require_options_of_dask(
        ["worker", *command[command.index("distributed.cli.dask_worker") + 1 :]]
    )
    settings = {k.arg: k.value for k in calls["sparc.extract"].keywords}
    del settings["scheduler"]
    wanted = {name: ast.literal_eval(value) for name, value in settings.items()}
    ExtractConfig(**wanted, scheduler="tcp://head:8786")


def test_the_operator_is_given_a_cluster_and_a_job_that_finds_it() -> None:
    cluster, job = (yaml.safe_load(text) for text in YAML[1:3])
    assert (cluster["apiVersion"], cluster["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    for name in ("worker", "scheduler"):
        (container,) = cluster["spec"][name]["spec"]["containers"]
        first, *arguments = container["args"]
        assert first == "dask"
        require_options_of_dask(arguments + ["tcp://h:1"] * (name == "worker"))
    selector = cluster["spec"]["scheduler"]["service"]["selector"]
    assert selector["dask.org/cluster-name"] == cluster["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program, run, *arguments = container["args"]
    assert (program, run) == ("sparc-extract", "run")
    assert arguments[-1] == f"--scheduler=tcp://{cluster['metadata']['name']}-scheduler:8786"
    given = dict(option.removeprefix("--").split("=") for option in arguments[2:])
    ExtractConfig(**given)


# ---------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    planted = plant({"a": 12, "b": 8}, rows=400, shared=10, private=2, active=3)
    folder = tmp_path_factory.mktemp("features") / "cache"
    write_arrays(folder, planted.features, rows_per_chunk=64, dtype="float16")
    return folder


def on_two_nodes(script: str) -> str:
    """A command of the page for two nodes that are this machine, without GPUs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = re.sub(r"[\w.$-]+:29500", f"localhost:{port}", script)
    return script.replace("per-node gpu", "per-node 1").replace("--max-restarts 3", "")


SMALL = "--batch-size 64 --latents 32 --k 4 --steps 20 --device cpu"


@pytest.mark.slow
def test_two_nodes_of_slurm_train_one_model(shell, features, tmp_path) -> None:
    run = tmp_path / "run"
    script = on_two_nodes(block("--job-name=sparc-train"))
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost"}
    done = shell(f"set -- {SMALL}\n{script}", CACHE=str(features), RUN=str(run), **slurm)
    assert done.returncode == 0, done.stderr
    assert "2 processes" in done.stderr
    assert done.stderr.count(f"{run}: trained for 20 steps") == 1
    assert RunRecord.read(Folder(run)).processes == 2
    assert (run / "model.safetensors").exists()


@pytest.mark.slow
def test_a_pod_that_does_not_see_the_cache_is_named(shell, features, tmp_path) -> None:
    (container,) = job_of("sparc-train")["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    script = on_two_nodes(script).replace("--batch-size 16384", SMALL)
    script = script.replace("/data/run", f"{tmp_path}/run").replace("/data/cache", '"$CACHE"')
    caches = {0: features, 1: "/nowhere"}
    with ThreadPoolExecutor(2) as pods:
        first, second = pods.map(
            lambda index: shell(script, JOB_COMPLETION_INDEX=str(index), CACHE=str(caches[index])),
            caches,
        )
    # Pods are numbered as they arrive at the meeting point, and the first one speaks for all.
    host, said = re.escape(socket.gethostname()), first.stderr + second.stderr
    refused = rf"error: process [12] of 2, on {host}: /nowhere is not an activation cache"
    assert re.search(refused, said), said
    assert said.count("error: ") == 1
    assert (first.returncode, second.returncode) == (1, 1)
    assert not (tmp_path / "run").exists()
