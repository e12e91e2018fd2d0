"""`sparc-train save`: a model without its run, with some of its streams, under other names."""

import pytest
import torch

from sparc.common.cache.reader import ActivationCache
from sparc.common.errors import ConfigError, RunError, SparcError
from sparc.common.files.folder import Folder
from sparc.train import AlignConfig, SaveConfig, align_run, load, save_run, take_streams
from sparc.train.job import run
from sparc.train.model.files import read_history


@pytest.fixture(scope="module", params=["global", "batch"])
def finished(request, small_cache, tmp_path_factory, small_settings):
    folder = tmp_path_factory.mktemp("runs") / request.param
    run(str(small_cache), folder, small_settings(selection=request.param, steps=20, device="cpu"))
    return folder


def test_kept_streams_have_the_same_independent_codes(finished, small_cache, tmp_path, call):
    out = tmp_path / "saved"
    options = ("--stream=clip_text", "--stream=dino", "--rename=clip_text=words")
    done = call("train", "save", finished, out, *options)
    assert done.returncode == 0, done.stderr
    before, after = load(finished), load(out)
    assert after.config.names == ("words", "dino")
    features = ActivationCache(small_cache).aligned(3, before.config.names).tensors()
    for old, new in (("clip_text", "words"), ("dino", "dino")):
        codes = [
            model.encode({name: features[old]}, "independent")[name]
            for model, name in ((before, old), (after, new))
        ]
        for one, other in zip(*codes, strict=True):
            assert torch.equal(one, other)
        assert torch.equal(before.decoder[old], after.decoder[new])
    # Joint codes are those of the whole model where it gets these streams alone.
    some = {name: features[name] for name in ("dino", "clip_text")}
    wanted = before.encode(some, "joint")
    actual = after.encode({"dino": some["dino"], "words": some["clip_text"]}, "joint")
    for one, other in ((wanted["dino"], actual["dino"]), (wanted["clip_text"], actual["words"])):
        assert torch.equal(one.indices.sort(1).values, other.indices.sort(1).values)

    (how,) = read_history(Folder(out)).saved
    assert how.source == str(finished)
    assert [(stream.name, stream.dim) for stream in how.streams] == [("dino", 24), ("words", 12)]
    shown = call("train", "inspect", out).stdout
    assert f"saved: from {finished}, clip_text as words" in shown
    content = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "is finished" in call("train", "save", finished, out, *options).stderr
    other = call("train", "save", finished, out)
    assert other.returncode == 2
    assert "holds another model, which stays" in other.stderr
    assert {path.name: path.read_bytes() for path in out.iterdir()} == content


def test_all_streams_stay_as_they_are(finished, small_cache, tmp_path):
    saved = save_run(finished, tmp_path / "saved")
    for name, tensor in load(finished).state_dict().items():
        assert torch.equal(saved.state_dict()[name], tensor)
    align_run(
        tmp_path / "saved", small_cache, tmp_path / "aligned", AlignConfig(device="cpu", rows=900)
    )
    history = read_history(Folder(tmp_path / "aligned"))
    assert len(history.saved) == len(history.aligned) == 1
    with pytest.raises(RunError, match="is not of a saved model"):
        save_run(tmp_path / "saved", finished)


def test_impossible_names_are_refused(finished):
    model = load(finished)
    for streams, rename, message in [
        (["sun"], {}, "no stream 'sun'"),
        (["dino"], {"sun": "moon"}, "no stream 'sun'"),
        (["dino", "dino"], {}, "stream dino is given twice"),
        ([], {"dino": "clip_text"}, "different names"),
        (["dino"], {"clip_text": "words"}, "clip_text is renamed, but only dino taken"),
    ]:
        with pytest.raises(SparcError, match=message):
            take_streams(model, streams, rename)
    for rename in (["dino"], ["dino="], ["dino=a", "dino=b"], ["dino=a/b"]):
        with pytest.raises(ConfigError):
            SaveConfig(rename=tuple(rename))
