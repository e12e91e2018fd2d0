"""Models on the hub, with a client that keeps everything in a folder."""

import pathlib
import shutil

import huggingface_hub
import pytest
import torch

from sparc.common.errors import RunError, SparcError, UnsafeError
from sparc.train import ModelConfig, StreamShape, create_model, load
from sparc.train.model.card import ModelCard, render_card
from sparc.train.model.hub import is_repository_id


@pytest.fixture
def model():
    return create_model(ModelConfig(streams=(StreamShape("a", 7),), latents=40, k=6))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's client, keeping repositories below a folder."""
    root = tmp_path / "hub"

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repository, *, private, exist_ok):
            if repository == "closed/door":
                raise PermissionError("403 Forbidden\nsecret details")

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, root / repo_id)

            class Commit:
                commit_url = f"hub:{repo_id}/1"

            return Commit()

    def snapshot_download(repository, *, allow_patterns):
        if not (root / repository).exists():
            raise ConnectionError("no way there")
        return str(root / repository)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return root


def test_published_model_loads_by_its_id(hub, model):
    assert model.push_to_hub("someone/sparc-toy") == "hub:someone/sparc-toy/1"
    loaded = load("someone/sparc-toy")
    assert torch.equal(loaded.encoder["a"], model.encoder["a"])
    card = (pathlib.Path(hub) / "someone/sparc-toy/README.md").read_text()
    assert 'load("someone/sparc-toy")' in card


def test_a_model_with_learned_thresholds_encodes_the_same_after_the_hub(hub):
    config = ModelConfig(streams=(StreamShape("a", 7),), latents=40, k=6, selection="batch")
    model = create_model(config)
    model.thresholds.fill_(0.3)
    features = {"a": torch.randn(20, 7, generator=torch.Generator().manual_seed(0))}
    expected = model.encode(features)["a"]
    assert (expected.values > 0).sum(1).unique().numel() > 1
    model.push_to_hub("someone/batch")
    codes = load("someone/batch").encode(features)["a"]
    assert torch.equal(codes.indices, expected.indices)
    assert torch.equal(codes.values, expected.values)
    card = (hub / "someone/batch/README.md").read_text()
    assert "With k = 6 a row uses these latents: k on average, those with the largest sums" in card


def test_the_clients_cache_may_hold_links_into_its_store_and_nowhere_else(hub, model):
    model.save(hub / "blobs")
    snapshot = hub / "someone/linked"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).symlink_to(hub / "blobs" / name)
    assert torch.equal(load("someone/linked").encoder["a"], model.encoder["a"])
    shutil.move(hub / "blobs", hub.parent / "elsewhere")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).unlink()
        (snapshot / name).symlink_to(hub.parent / "elsewhere" / name)
    with pytest.raises(UnsafeError, match="leads out of the hub's cache"):
        load("someone/linked")


def test_saving_replaces_no_other_configuration(model, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(RunError, match="not of a saved model"):
        model.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    model.save(tmp_path / "mine")
    model.save(tmp_path / "mine")


def test_card_says_what_is_known(model):
    card = ModelCard(
        encoders={"a": "timm:vit_small?size=224"},
        dataset="COCO | 2017\n<script>",
        rows=118287,
        figures={"agreement, independent": "0.123"},
        license="cc-by-4.0",
    )
    text = render_card(model.config, "someone/sparc-toy", card)
    assert text.startswith("---\nlibrary_name: sparc\n")
    assert 'license: "cc-by-4.0"' in text
    assert "| a | 7 | timm:vit\\_small?size=224 |" in text
    assert r"COCO \| 2017\\n\<script\>, 118,287 rows" in text
    assert "| agreement, independent | 0.123 |" in text


def test_errors_are_one_line(hub, model):
    with pytest.raises(RunError, match=r"neither a folder here nor .*: no way there$"):
        load("someone/else")
    with pytest.raises(SparcError, match=r"cannot publish to closed/door: 403 Forbidden$"):
        model.push_to_hub("closed/door")
    with pytest.raises(SparcError, match="owner/name"):
        model.push_to_hub("../etc")


@pytest.mark.parametrize("text", ["a/b", "facebook/dinov2-base", "A1/b_c.d"])
def test_repository_ids(text):
    assert is_repository_id(text)


@pytest.mark.parametrize("text", ["a", "/a/b", "a/b/c", "../b", "s3://a", "a/..", "a b/c"])
def test_not_repository_ids(text):
    assert not is_repository_id(text)


@pytest.mark.parametrize("license", ["other: mine", "mit\n---\nfree: text", 'a "b"', "[x", "#"])
def test_no_license_breaks_the_head_of_the_card(model, license) -> None:
    yaml = pytest.importorskip("yaml")
    _, head, _ = render_card(model.config, "me/it", ModelCard(license=license)).split("---\n", 2)
    assert yaml.safe_load(head)["license"] == license
