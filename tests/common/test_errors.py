"""A message speaks the language that it is typed in: options on a command line, else arguments."""

import re

import numpy as np
import pytest

import sparc
from sparc.common.errors import on_command_line, setting


def test_a_setting_is_an_option_while_a_command_runs() -> None:
    assert setting("--dead-after") == "dead_after="
    assert setting("--trust-encoders", "trust_encoders=True") == "trust_encoders=True"
    with on_command_line():
        with on_command_line():
            pass
        assert setting("--dead-after") == "--dead-after"
    assert setting("--dead-after") == "dead_after="


def test_python_and_the_command_line_name_the_same_way_out(tmp_path, call) -> None:
    features = {"a": np.random.default_rng(0).standard_normal((40, 6))}
    sparc.write_arrays(tmp_path / "cache", features)
    small = {"k": 3, "steps": 2, "device": "cpu", "kernels": "torch"}
    sparc.train(tmp_path / "cache", tmp_path / "run", latents=8, **small)
    options = [f"--{name}={value}" for name, value in small.items()]
    done = call("train", "run", tmp_path / "cache", tmp_path / "run", "--latents=9", *options)
    assert re.search(r"or remove this run with --overwrite\s*$", done.stderr)
    with pytest.raises(
        sparc.SparcError, match=r"or remove this run with overwrite=True$"
    ) as caught:
        sparc.train(tmp_path / "cache", tmp_path / "run", latents=9, **small)
    assert "--" not in str(caught.value)
