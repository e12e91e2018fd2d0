"""Tar shards behind URLs: the cache is that of a local copy, and little is fetched for it."""

import io
import json
import os
import pickle
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sparc.common.errors import DatasetError, UnavailableError
from sparc.extract import job
from sparc.extract.config import ExtractConfig
from sparc.extract.datasets import DatasetOptions, open_dataset
from sparc.extract.datasets.images import CacheImages

SHARDS, IMAGES = 3, 30


def picture(number: int) -> bytes:
    """An image of the size that the encoders of these tests take, with bytes behind its end."""
    content = io.BytesIO()
    Image.effect_noise((8, 8), 90).convert("RGB").save(content, "PNG")
    return content.getvalue() + bytes(number * 40)


def pack(path: Path, members: dict[str, bytes], **how) -> None:
    with tarfile.open(path, "w", **how) as shard:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            shard.addfile(header, io.BytesIO(content))


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """Shards as people have them: long names, labels, a table, damage, hostile names."""
    folder = tmp_path_factory.mktemp("local") / "data"
    folder.mkdir()
    number = 0
    for shard in range(SHARDS):
        members = {}
        for _ in range(IMAGES):
            key = f"{number:09}" if shard else f"{'deep/' * 30}{number:09}"
            members[f"{key}.png"] = picture(number)
            if shard < 2:
                members[f"{key}.txt"] = f"picture {number}".encode()
                members[f"{key}.json"] = json.dumps({"width": number, "label": number % 3}).encode()
            number += 1
        pack(folder / f"{shard:05}.tar", members, format=tarfile.PAX_FORMAT)
    keys = [f"{n:09}" for n in range((SHARDS - 1) * IMAGES, number)]
    table = pa.table({"key": keys, "caption": [f"of a table {key}" for key in keys]})
    pq.write_table(table, folder / "00002.parquet")
    (folder / "classnames.txt").write_text("cat\ndog\ntree\n")
    with tarfile.open(folder / "00001.tar", "a") as shard:
        for name, kind in (("../up.png", tarfile.REGTYPE), ("link.png", tarfile.SYMTYPE)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            shard.addfile(header)
    with tarfile.open(folder / "00000.tar") as shard:
        end = shard.getmembers()[-1].offset_data
    os.truncate(folder / "00000.tar", end + 5)
    return folder


@pytest.fixture
def data(object_store, local) -> str:
    """The same shards behind a URL."""
    url = f"{object_store.bucket()}/data"
    fsspec.filesystem("s3").put(f"{local}/", f"{url}/", recursive=True)
    return url


def both(local, url, **options):
    chosen = DatasetOptions(columns=("width",), **options)
    return open_dataset(local, chosen), open_dataset(url, chosen)


def read_as_the_loader_does(dataset, paths):
    batches = [paths[first : first + 16] for first in range(0, len(paths), 16)]
    with ThreadPoolExecutor(4) as pool:
        for batch in batches:
            dataset.expect(batch)
        return list(pool.map(dataset.read_image, paths))


def test_rows_and_images_are_those_of_a_copy_and_cost_few_requests(object_store, data, local):
    index = f"{data.removesuffix('/data')}/index"
    pattern = f"{data}/{{00000..0000{SHARDS - 1}}}.tar"
    here, there = both(local, pattern, dataset_index=index)
    wanted = here.manifest()
    with object_store.faults():
        manifest = there.manifest()
        log = object_store.seen().log
    assert manifest.rows.equals(wanted.rows)
    assert manifest.classes.equals(wanted.classes)
    assert manifest.account == wanted.account
    assert manifest.dataset == pattern
    of_shards = [line for line in log if line.endswith(".tar")]
    assert len(of_shards) <= 4 * SHARDS

    folder = both(local, data, dataset_index=index)[1]  # another command, of the whole folder
    copy = pickle.loads(pickle.dumps(there))  # a worker
    paths = manifest.rows["image"].to_pylist()
    with object_store.faults():
        assert folder.manifest().rows.equals(wanted.rows)
        assert not [line for line in object_store.seen().log if line.endswith(".tar")]
        images = read_as_the_loader_does(copy, paths)
        seen = object_store.seen()
    assert images == [here.read_image(path) for path in paths]
    fetched = [line for line in seen.log if line.startswith("GET ") and line.endswith(".tar")]
    assert len(fetched) < len(paths) / 4
    info = type("Info", (), {"dataset": pattern, "dataset_format": "webdataset"})
    with pytest.raises(DatasetError, match=r"URL.* not followed: say where it is with dataset="):
        CacheImages(info)
    assert CacheImages(info, data, index=index).read(paths[-1]) == images[-1]


def test_a_cache_is_the_same_where_the_store_fails(
    object_store, data, local, tmp_path, fake_encoders, fake_streams
):
    config = ExtractConfig(streams=fake_streams, rows_per_chunk=32, batch_size=8, device="cpu")
    for name, place in (("here", local), ("there", data)):
        options = config.dataset_options(str(tmp_path / name))
        with object_store.faults(
            dropped=0.03, truncated=0.03, short=0.03, failed=0.03, only=r"\.tar$", seed=1
        ):
            dataset = open_dataset(place, options)
            job.run(dataset, tmp_path / name, config, build=fake_encoders())
            faults = object_store.seen().faults
    assert sum(faults.values()) > 1
    caches = [files_of(tmp_path / name) for name in ("here", "there")]
    assert caches[0].keys() == caches[1].keys()
    differing = {name for name in caches[0] if caches[0][name] != caches[1][name]}
    assert all(str(local).encode() in caches[0][name] for name in differing)
    assert (tmp_path / "there.index").is_dir()
    assert not (tmp_path / "here.index").exists()


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_shard_that_changes_is_refused_by_name(data, local, tmp_path):
    options = DatasetOptions(dataset_index=str(tmp_path / "index"))
    dataset = open_dataset(data, options)
    paths = dataset.manifest().rows["image"].to_pylist()
    worker, late = (pickle.loads(pickle.dumps(dataset)) for _ in range(2))
    worker.read_image(paths[-1])
    store = fsspec.filesystem("s3")
    store.put_file(str(local / "00001.tar"), f"{data}/00002.tar")
    for reader in (worker, late):
        with pytest.raises(UnavailableError, match=r"data/00002\.tar has changed"):
            reader.read_image(paths[-2])
    with pytest.raises(DatasetError, match=r"00002\.tar has changed .*; or remove .*index"):
        open_dataset(data, options).manifest()
    store.rm_file(f"{data}/00001.tar")
    with pytest.raises(UnavailableError, match=r"data/00001\.tar is not there any more"):
        late.read_image(paths[IMAGES])
    with pytest.raises(DatasetError, match=r"no .*data/00001\.tar; missing are 1 of 3 shards"):
        open_dataset(f"{data}/{{00000..00002}}.tar", options).manifest()
    with pytest.raises(DatasetError, match=r"\*\.tar; .*by braces, such as .*, or all by .*data/$"):
        open_dataset(f"{data}/*.tar", options).manifest()


def test_what_is_kept_may_be_damaged_or_another_ones(data, local, tmp_path, capsys):
    options = DatasetOptions(dataset_index=str(tmp_path / "index"))
    wanted = open_dataset(data, options).manifest()
    kept = sorted((tmp_path / "index").rglob("*.parquet"))
    assert len(kept) == SHARDS
    kept[0].write_bytes(kept[0].read_bytes()[:-100])
    shutil.copy(kept[2], kept[1])
    assert open_dataset(data, options).manifest().rows.equals(wanted.rows)
    assert capsys.readouterr().err.count("is damaged, and made again") == 2
    assert wanted.rows.equals(open_dataset(local, DatasetOptions()).manifest().rows)


class _Ranged(SimpleHTTPRequestHandler):
    """A web server that gives parts of files."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        asked = self.headers.get("Range")
        if asked is None or not self.gives_parts:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.mark.parametrize("gives_parts", [True, False])
def test_shards_of_a_web_server(local, gives_parts):
    handler = type("Handler", (_Ranged,), {"gives_parts": gives_parts})
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *arguments: handler(*arguments, directory=str(local))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        there = open_dataset(f"{url}/{{00000..00001}}.tar", DatasetOptions())
        if gives_parts:
            here = open_dataset(f"{local}/{{00000..00001}}.tar", DatasetOptions())
            rows = there.manifest().rows
            assert rows.drop("label_ids").equals(here.manifest().rows.drop("label_ids"))
            path = rows["image"][-1].as_py()
            assert there.read_image(path) == here.read_image(path)
        else:
            with pytest.raises(UnavailableError, match="cannot be read in parts"):
                there.manifest()
        with pytest.raises(DatasetError, match="name the shards"):
            open_dataset(url, DatasetOptions())
        server.shutdown()
