"""What a user reads when a model cannot be loaded, and how fast."""

import os
import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import hub, parse_spec

SPEC = parse_spec("timm:test_vit?size=96")


def load(error, *, from_hub=True, spec=SPEC):
    with pytest.raises(EncoderError) as caught, hub.loading(spec, from_hub=from_hub):
        raise error
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_an_unreachable_hub_makes_its_client_work_offline_for_the_while(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: False)
    with hub.loading(SPEC, from_hub=True):
        assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    load(ValueError("no"))
    assert not constants.HF_HUB_OFFLINE


def test_a_reachable_hub_is_used(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: True)
    with hub.loading(SPEC, from_hub=True):
        assert not constants.HF_HUB_OFFLINE


def test_local_files_do_not_ask_for_the_hub(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "hub_is_reachable", lambda: pytest.fail("asked"))
    with hub.loading(SPEC, from_hub=False):
        pass


def test_a_refused_connection_is_noticed_at_once(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert not hub.hub_is_reachable()


def test_giving_up_takes_seconds(tmp_path):
    """The whole way, in a fresh process: the hub's own client would retry for half a minute."""
    code = """
import sys, time, torch, timm
from sparc.extract.encoders import build_encoders, parse_spec
start = time.monotonic()
try:
    build_encoders({"stream": parse_spec("timm:test_vit")}, torch.device("cpu"))
except Exception as error:
    print(type(error).__name__, error)
print(time.monotonic() - start)
"""
    nothing_listens = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | nothing_listens,
        capture_output=True,
        text=True,
        check=True,
    )
    message, seconds = result.stdout.splitlines()
    assert message.startswith("EncoderError cannot load timm:test_vit: the model hub cannot be")
    assert float(seconds) < hub.PROBE_SECONDS + 15
    assert result.stderr == ""


def test_an_unknown_model_of_the_hub():
    response = SimpleNamespace(headers={}, request=None)
    message = load(RepositoryNotFoundError("404 Client Error\n\nfor url", response=response))
    assert "the hub has no such model, or it is private or gated" in message
    assert "timm:test_vit@weights.safetensors?size=96" in message


def test_a_wrapped_hub_error_is_recognized():
    try:
        raise LocalEntryNotFoundError("not\nthere")
    except LocalEntryNotFoundError as cause:
        error = RuntimeError(f"Failed: {cause}")
        error.__context__ = cause
    assert "the model hub cannot be reached" in load(error)


def test_other_errors_keep_their_text_in_one_line():
    assert load(RuntimeError("two\nlines")) == f"cannot build {SPEC}: two lines"


def test_errors_of_sparc_pass_through():
    with pytest.raises(ConfigError, match="mine"), hub.loading(SPEC, from_hub=False):
        raise ConfigError("mine")
