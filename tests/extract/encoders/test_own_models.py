"""A user's own PyTorch modules as streams: from a file, registered, or of an installed package."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import functional as F

import sparc
from sparc.analyze.localize.towers import open_tower
from sparc.common.errors import ConfigError, EncoderError
from sparc.extract.encoders import ImageModel, TextModel, parse_spec, register_encoder
from sparc.extract.encoders.libraries import LIBRARIES
from sparc.extract.encoders.tower import LocalizeError

FILE = """
import torch
from torch import nn
from torchvision.transforms import functional as F

from sparc.extract.encoders import ImageModel, TextModel


def build(seed: int = 1, side: int = 8):
    import sizes_beside  # lies beside this file
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * side * side, sizes_beside.DIM))
    return ImageModel(net, lambda image: F.to_tensor(image.resize((side, side))))


def letters():
    net = nn.EmbeddingBag(128, 5)
    nn.init.normal_(net.weight, generator=torch.Generator().manual_seed(0))
    def tokenize(captions):
        return torch.tensor([[min(ord(c), 127) for c in f"{text:12.12}"] for text in captions])
    return TextModel(net, tokenize)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "sizes_beside.py").write_text("DIM = 6")
    (folder / "my_models.py").write_text(FILE)
    return folder / "my_models.py"


@pytest.fixture(autouse=True)
def _fresh_libraries(monkeypatch):
    monkeypatch.setattr("sparc.extract.encoders.libraries.LIBRARIES", dict(LIBRARIES))


@pytest.fixture(scope="module")
def data(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("data")
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    return folder


def test_a_file_is_a_stream(file, data, pictures, build, call, tmp_path, monkeypatch):
    monkeypatch.chdir(file.parent)
    streams = (
        *("--stream", "mine=python:my_models.py?seed=3"),
        *("--stream", "text=python:my_models.py:letters#text"),
    )
    command = ("run", data, tmp_path / "cache", *streams, "--dtype", "float32", "--device", "cpu")
    planned = call("extract", *command, "--dry-run")
    assert "my_models.py:build?seed=3 (image, dim known once" in " ".join(planned.stdout.split())
    done = call("extract", *command)
    assert done.returncode == 0, done.stderr
    assert "3 captions cut" in done.stdout + done.stderr  # twelve letters of "picture number 0"

    cache = sparc.ActivationCache(tmp_path / "cache")
    assert cache.streams["mine"].origin.spec == f"python:{file}:build?seed=3"
    torch.manual_seed(3)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3 * 64, 6)).eval()
    with torch.no_grad():
        expected = net(torch.stack([F.to_tensor(p.resize((8, 8))) for p in pictures]))
    np.testing.assert_allclose(cache.features("mine", 0), expected, rtol=1e-5, atol=1e-6)
    # Another seed is another model: what is there is not continued with it.
    again = call("extract", *(str(part).replace("seed=3", "seed=4") for part in command))
    assert again.returncode == 2
    assert "weights_sha256" in again.stderr


def test_a_function_is_known_by_its_source(file, build):
    first = build(f"python:{file}").origin
    assert build(f"python:{file}?seed=1").origin.weights_sha256 == first.weights_sha256
    other = file.with_name("other.py")
    other.write_text(FILE + "\n# edited\n")
    changed = build(f"python:{other}").origin
    assert changed.weights_sha256 == first.weights_sha256
    assert changed.definition_sha256 != first.definition_sha256


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(): pass", r"has no function build; its functions are other"),
        ("1 / 0", r"cannot be run: ZeroDivisionError: .*line 1\)"),
        ("def build(): raise KeyError('x')", r"cannot be built: KeyError: 'x' .*line 1\)"),
        ("import sys\nsys.exit(3)", "cannot be run: SystemExit: 3"),
        ("def build(seed, **more): pass", r"cannot be called like this: missing a required"),
        ("def build(): return 7", r"gives a int: it must return ImageModel\(module, prepare\)"),
    ],
)
def test_a_function_that_fails_says_where(code, message, build, tmp_path) -> None:
    (tmp_path / "models.py").write_text(code)
    with pytest.raises(EncoderError, match=message) as caught:
        build(f"python:{tmp_path}/models.py")
    assert str(caught.value).isprintable()


def test_a_model_that_gives_nan_can_be_built(build) -> None:
    register_encoder(
        "mylab", lambda: ImageModel(nn.Flatten(), small, encode=lambda x: x.flatten(1) * np.nan)
    )
    assert build("mylab:").dim == 48  # its features are rejected row by row, as any that are NaN


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "python:{}?sede=3",
            r"python:\S+\?sede=3: the function has no option 'sede': its options are seed and side",
        ),
        ("python:{}?seed=x", "option seed must be a whole number, not 'x'"),
        ("python:{}:letters", "reads captions: add #text to the spec"),
        ("python:{}#text", "reads images: remove #text"),
        ("python:{}.py", "there is no file"),
        ("python:no_such_lab.models", "there is no module no_such_lab.models"),
    ],
)
def test_a_spec_that_does_not_fit_the_function_says_so(spec, message, file, build) -> None:
    with pytest.raises(EncoderError, match=message):
        build(spec.format(file))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: ImageModel(lambda x: x, F.to_tensor), "not an nn.Module"),
        (lambda: ImageModel(nn.Flatten(), F.to_tensor), "inputs of different shapes"),
        (lambda: ImageModel(nn.Identity(), small), r"shape \(2, 3, 4, 4\) for 2 inputs"),
        (lambda: ImageModel(nn.Identity(), small, encode=described), "gives a dict, not a"),
        (lambda: ImageModel(nn.Identity(), np.asarray), "prepare gives a ndarray"),
        (lambda: ImageModel(nn.Flatten(), small, encode=noise), "other features each time"),
        (lambda: ImageModel(nn.Flatten(), small, pool=noise), "both places and pool"),
    ],
)
def test_a_model_that_cannot_be_a_stream_says_why(model, message, build) -> None:
    register_encoder("mylab", model)
    with pytest.raises(EncoderError, match=message):
        build("mylab:")


def small(image):
    return F.to_tensor(image.resize((4, 4)))


def described(pixels):
    return {"features": pixels}


def noise(pixels):
    return torch.rand(len(pixels), 3)


def test_from_python_a_registered_function_is_a_stream(data, build, tmp_path):
    def mylab(name="narrow", *, scale: float = 1.0):
        net = nn.Conv2d(3, 4 if name == "narrow" else 9, 2, stride=2)
        nn.init.constant_(net.weight, scale)
        nn.init.zeros_(net.bias)
        return ImageModel(
            net, small, places=lambda x: net(x).permute(0, 2, 3, 1), pool=lambda p: p.mean((1, 2))
        )

    register_encoder("mylab", mylab)
    streams = {"a": "mylab:", "b": "mylab:wide?scale=0.5"}
    cache = sparc.extract(data, tmp_path / "cache", streams=streams, device="cpu")
    assert {name: cache.stream(name).dim for name in cache.stream_names} == {"a": 4, "b": 9}
    assert sparc.extract(data, tmp_path / "cache", streams=streams, device="cpu").info.rows == 3
    assert open_tower(build("mylab:")).places(torch.zeros(1, 3, 4, 4)).patches.shape == (1, 2, 2, 4)
    register_encoder("mylab", lambda: mylab("wide"))  # as when a cell of a notebook runs again
    assert build("mylab:").dim == 9
    with pytest.raises(ConfigError, match="there is an encoder library 'timm' already"):
        register_encoder("timm", mylab)
    with pytest.raises(ConfigError, match="cannot be called 'My Lab'"):
        register_encoder("My Lab", mylab)


def test_a_model_without_places_says_what_it_needs_for_heat_maps(file, build):
    with pytest.raises(LocalizeError, match=r"return ImageModel\(module, prepare, places=…, pool"):
        open_tower(build(f"python:{file}"))


def test_a_text_model_takes_what_its_tokenizer_gives(build, assert_same):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 3, _weight=torch.arange(27.0).reshape(9, 3))

        def forward(self, ids, mask):
            return (self.words(ids) * mask[:, :, None]).sum(1)

    def tokenize(captions):
        ids = [[len(word) % 9 for word in f"{caption} . .".split()[:2]] for caption in captions]
        return {"ids": torch.tensor(ids), "mask": torch.ones(len(ids), 2)}

    net = Net()
    register_encoder("mylab", lambda: TextModel(net, tokenize))
    encoded = build("mylab:#text").encode(["a cat", "a dog there"])
    assert_same(encoded.features, net.words.weight[[1, 1]] + net.words.weight[[3, 3]])
    assert encoded.cut == 1


def test_an_installed_package_offers_an_encoder(tmp_path):
    (tmp_path / "theirs.py").write_text(
        FILE.replace("sizes_beside.DIM", "7").replace("import sizes_beside", "pass")
    )
    (tmp_path / "theirs-1.0.dist-info").mkdir()
    (tmp_path / "theirs-1.0.dist-info/METADATA").write_text("Name: theirs\nVersion: 1.0\n")
    (tmp_path / "theirs-1.0.dist-info/entry_points.txt").write_text(
        "[sparc.encoders]\ntheirs = theirs:build\n"
    )
    code = (
        "import torch; from sparc.extract.encoders import build_encoders, parse_spec; "
        "print(build_encoders({'a': parse_spec('theirs:?side=4')}, torch.device('cpu'))['a'].dim)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert done.stdout.strip() == "7", done.stderr


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("python:a/b.py", "python:a/b.py:build"),
        ("python:a/b.py:net?x=1#text", "python:a/b.py:net?x=1#text"),
        ("python:lab.models:net#image", "python:lab.models:net"),
        ("python:b.py?path=/a%26b=c", "python:b.py:build?path=/a%26b%3Dc"),
    ],
)
def test_specs_are_read_back(text, recorded) -> None:
    assert str(parse_spec(text)) == recorded
    assert parse_spec(recorded) == parse_spec(text)


@pytest.mark.parametrize("text", ["python:", "python:a/b", "python:a b:c"])
def test_a_spec_must_name_a_file_or_module(text) -> None:
    with pytest.raises(ConfigError, match=r"must name a Python file, FILE.py, or a module"):
        parse_spec(text)
