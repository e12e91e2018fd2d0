import dataclasses

import pytest

from sparc.analyze.codes.subject import choose_streams, open_subject
from sparc.common.errors import CacheError, RunError
from sparc.common.files.folder import Folder
from sparc.train.derive.history import History
from sparc.train.derive.saved_model import write_saved_model
from sparc.train.save.config import SaveConfig
from sparc.train.save.record import SaveRecord


@pytest.fixture
def subject(saved_model):
    return open_subject(saved_model)


def test_the_streams_are_in_the_models_order(subject, make_cache, tmp_path):
    cache = make_cache(tmp_path, streams=("clip_text", "dino"))
    assert choose_streams(subject, cache) == ("dino", "clip_text")
    assert choose_streams(subject, cache, ["clip_text"]) == ("clip_text",)


def test_a_requested_stream_must_be_in_model_and_cache(subject, make_cache, tmp_path):
    cache = make_cache(tmp_path, streams=("dino",))
    with pytest.raises(CacheError, match="has no stream 'clip_text'; it has dino"):
        choose_streams(subject, cache, ["clip_text"])
    with pytest.raises(CacheError, match="has no stream 'siglip'; it has dino, clip_image"):
        choose_streams(subject, cache, ["siglip"])


def trained_on(subject, cache, **origin):
    """The subject as if it had been trained on features of some origin."""
    streams = tuple(
        dataclasses.replace(s, origin=dataclasses.replace(s.origin, **origin))
        for s in cache.streams.values()
    )
    return dataclasses.replace(subject, trained_on=streams)


def test_features_of_another_encoder_are_refused(subject, make_cache, tmp_path):
    cache = make_cache(tmp_path)
    assert len(choose_streams(trained_on(subject, cache, precision="bfloat16"), cache)) == 3
    for change in ({"spec": "timm:other"}, {"weights_sha256": "aa"}, {"input_size": (512,)}):
        with pytest.raises(CacheError, match="stream dino was made by another encoder"):
            choose_streams(trained_on(subject, cache, **change), cache)
    for stream in cache.streams.values():
        cache.streams[stream.name] = dataclasses.replace(
            stream, origin=dataclasses.replace(stream.origin, definition_sha256="gelu")
        )
    assert len(choose_streams(trained_on(subject, cache), cache)) == 3
    with pytest.raises(
        CacheError, match=r"definition_sha256: array \(quick\) then, array \(gelu\) here"
    ):
        choose_streams(trained_on(subject, cache, definition_sha256="quick"), cache)


def test_features_of_another_width_are_refused(subject, make_cache, tmp_path):
    cache = make_cache(tmp_path)
    shapes = tuple(dataclasses.replace(s, dim=s.dim + 1) for s in subject.model.config.streams)
    subject.model.config = dataclasses.replace(subject.model.config, streams=shapes)
    with pytest.raises(CacheError, match="features of stream dino have 24 values"):
        choose_streams(subject, cache)


def test_anything_but_a_model_is_refused(tmp_path):
    with pytest.raises(RunError):
        open_subject(tmp_path)


def test_a_saved_model_knows_the_encoders_that_it_records(subject, make_cache, tmp_path):
    assert subject.trained_on is None
    assert not subject.encoders_are_known
    cache = make_cache(tmp_path / "cache")
    streams = tuple(cache.streams[name] for name in subject.model.config.names)
    folder = Folder(tmp_path / "model")
    record = SaveRecord(
        source="run", source_sha256="", streams=streams, settings=SaveConfig(), versions={}
    )
    for some, known in ((streams[:1], False), (streams, True)):
        history = History(saved=(dataclasses.replace(record, streams=some),))
        folder.create()
        write_saved_model(folder, subject.model, history)
        opened = open_subject(tmp_path / "model")
        assert opened.trained_on == some
        assert opened.encoders_are_known == known
