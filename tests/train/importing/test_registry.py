"""A new format is one class and one line in the registry: here one that a test defines."""

import json

import pytest
import torch

from sparc.common.errors import DictionaryError
from sparc.train import ImportConfig, export_run, import_dictionary
from sparc.train.dictionaries.dictionary import Dictionary, TopK
from sparc.train.dictionaries.formats.format import WritableFormat
from sparc.train.dictionaries.formats.registry import FORMATS, WRITABLE, FormatEntry
from sparc.train.export.config import ExportConfig


class InJson(WritableFormat):
    """A dictionary in a file of JSON."""

    files = ("dictionary.json",)
    load = "codes = encode(features, FOLDER)"

    def recognizes(self, given):
        return given.has("dictionary.json")

    def read(self, given, k):
        content = given.document("dictionary.json")
        encoder = torch.tensor(content["encoder"])
        return Dictionary(
            encoder=encoder,
            encoder_bias=torch.zeros(len(encoder)),
            decoder=encoder,
            bias=torch.zeros(encoder.shape[1]),
            activation=TopK(k or content["k"]),
            normalize="none",
        )

    def write(self, dictionary, folder, about):
        content = {"encoder": dictionary.encoder.tolist(), "k": 3, "from": about.source_sha256}
        folder.write("dictionary.json", json.dumps(content).encode())

    def written_from(self, folder):
        return json.loads(folder.read("dictionary.json"))["from"]

    def differences(self, dictionary):
        return ["Biases are left out."]


@pytest.fixture(autouse=True)
def in_json(monkeypatch):
    entry = FormatEntry("a file of JSON", f"{__name__}:InJson", writes=True)
    for registry in (FORMATS, WRITABLE):
        monkeypatch.setitem(registry, "in-json", entry)


def test_it_is_recognized_read_and_written(tmp_path, capsys):
    (tmp_path / "given").mkdir()
    encoder = torch.eye(6).tolist()
    (tmp_path / "given" / "dictionary.json").write_text(json.dumps({"encoder": encoder, "k": 3}))
    model = import_dictionary(tmp_path / "given", tmp_path / "model", ImportConfig(stream="a"))
    assert model.encode(torch.arange(6.0), stream="a").dense().tolist() == [0, 0, 0, 3, 4, 5]
    (folder,) = export_run(tmp_path / "model", tmp_path / "out", ExportConfig(to="in-json"))
    assert json.loads((folder / "dictionary.json").read_text())["encoder"] == encoder
    assert "note: Biases are left out." in capsys.readouterr().err
    assert 'encode(features, "a")' in (tmp_path / "out" / "README.md").read_text()
    again = import_dictionary(folder, tmp_path / "again", ImportConfig(stream="a", k=3))
    assert torch.equal(again.encoder["a"], model.encoder["a"])


def test_what_two_formats_recognize_needs_a_word(tmp_path, monkeypatch):
    twin = FormatEntry("the same", f"{__name__}:InJson")
    monkeypatch.setitem(FORMATS, "twin", twin)
    (tmp_path / "dictionary.json").write_text(json.dumps({"encoder": [[1.0]], "k": 1}))
    with pytest.raises(DictionaryError, match="may be of in-json or twin: say which with format="):
        import_dictionary(tmp_path, tmp_path / "model", ImportConfig(stream="a"))
    import_dictionary(tmp_path, tmp_path / "model", ImportConfig(stream="a", format="twin"))


def test_a_format_that_asks_everything_for_tensors_hinders_no_other(tmp_path, monkeypatch):
    class OfTensors(InJson):
        def recognizes(self, given):
            return "mine" in given.tensors()  # as the docstring of the registry has it

    monkeypatch.setitem(globals(), "OfTensors", OfTensors)
    entries = {"mine": FormatEntry("a file", f"{__name__}:OfTensors"), **FORMATS}
    for name in list(FORMATS):
        monkeypatch.delitem(FORMATS, name)
    for name, entry in entries.items():  # it is asked first
        monkeypatch.setitem(FORMATS, name, entry)
    (tmp_path / "dictionary.json").write_text(json.dumps({"encoder": [[1.0]], "k": 1}))
    import_dictionary(tmp_path, tmp_path / "model", ImportConfig(stream="a"))
