"""Towers and methods on small random encoders of every supported kind.

The images are dark with one bright object, which is moved.
"""

import open_clip
import pytest
import torch

from sparc.analyze.localize.methods import choose, localize
from sparc.analyze.localize.targets import raw_objective
from sparc.analyze.localize.towers import open_tower
from sparc.extract.encoders.open_clip.tower import open_clip_tower
from sparc.extract.encoders.timm.tower import TimmTower
from sparc.extract.encoders.tower import LocalizeError

VIT = {"embed_dim": 48, "depth": 3, "num_heads": 3}


@pytest.fixture(scope="module")
def towers(timm_encoder):
    """By name, a tower, its encoder's features, the size of its images and of its grid."""
    results = {}

    def add(name, encoder, size, grid):
        results[name] = (open_tower(encoder), encoder.encode, size, grid)

    add(
        "vit, class token",
        timm_encoder("vit_tiny_patch16_224", "?size=96", img_size=96, **VIT),
        (96, 96),
        (6, 6),
    )
    add(
        "vit, registers, patch 14, block",
        timm_encoder(
            "vit_small_patch14_reg4_dinov2", "?size=112&pool=cls&block=1", img_size=112, **VIT
        ),
        (112, 112),
        (8, 8),
    )
    add(
        "vit, mean",
        timm_encoder("vit_tiny_patch16_224", "?size=96&pool=mean", img_size=96, **VIT),
        (96, 96),
        (6, 6),
    )
    add(
        "vit, attention pooling",
        timm_encoder("vit_base_patch16_siglip_224", "?size=96", img_size=96, **VIT),
        (96, 96),
        (6, 6),
    )
    add("cnn", timm_encoder("resnet18", "?size=160"), (160, 160), (5, 5))
    add("cnn with a head", timm_encoder("mobilenetv3_small_050", "?size=160"), (160, 160), (5, 5))
    add(
        "swin",
        timm_encoder(
            "swin_tiny_patch4_window7_224", "?size=224", embed_dim=24, depths=(1, 1, 1, 1)
        ),
        (224, 224),
        (7, 7),
    )
    vision = {"width": 48, "layers": 3, "head_width": 16, "image_size": 96}
    text = {"width": 32, "heads": 2, "layers": 1}
    for name, config, grid in (
        ("clip vit", {**vision, "patch_size": 16}, (6, 6)),
        (
            "clip timm",
            {"timm_model_name": "resnet18", "timm_pool": "avg", "image_size": 96},
            (3, 3),
        ),
        ("clip resnet", {"width": 16, "layers": [1, 1, 1, 1], "image_size": 160}, (5, 5)),
    ):
        torch.manual_seed(0)
        model = open_clip.CLIP if "timm_model_name" not in config else open_clip.CustomTextCLIP
        clip = model(32, config, text).eval().requires_grad_(False)
        size = (config["image_size"],) * 2
        results[name] = (open_clip_tower(clip), clip.encode_image, size, grid)
    return results


NAMES = (
    "vit, class token",
    "vit, registers, patch 14, block",
    "vit, mean",
    "vit, attention pooling",
    "cnn",
    "cnn with a head",
    "swin",
    "clip vit",
    "clip timm",
    "clip resnet",
)
WITH_ATTENTION = (*NAMES[:4], "clip vit")


def background(size):
    return 0.3 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(7))


def with_object(size, grid, row, column):
    """A dark image with one bright, striped cell."""
    pixels = background(size)
    height, width = size[0] // grid[0], size[1] // grid[1]
    cell = pixels[:, :, row * height : (row + 1) * height, column * width : (column + 1) * width]
    cell[:] = 3.0
    cell[:, :, ::2] = -3.0
    return pixels


@pytest.mark.parametrize("name", NAMES)
def test_what_is_pooled_is_the_encoders_own_feature(towers, name):
    tower, encode, size, grid = towers[name]
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        places = tower.places(pixels)
        assert places.patches.shape[:3] == (2, *grid)
        torch.testing.assert_close(tower.pool(places), encode(pixels), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "direct") for name in NAMES),
        *((name, "gradcam") for name in NAMES),
        *((name, "attention") for name in WITH_ATTENTION),
    ],
)
def test_maps_follow_a_moved_object(towers, name, method):
    tower, encode, size, grid = towers[name]
    empty = background(size)
    torch.manual_seed(1)
    objectives = [raw_objective(torch.randn(encode(empty).shape[1])) for _ in range(12)]
    without = localize(tower, empty, objectives, method=method)
    assert without.shape == (12, *grid)
    # An object changes a map most where it is; a turned or mirrored map would show it elsewhere.
    for row, column in [(0, 1), (grid[0] - 1, 0), (1, grid[1] - 1)]:
        actual = localize(tower, with_object(size, grid, row, column), objectives, method=method)
        assert torch.isfinite(actual).all()
        change = (actual - without).abs()
        change = (change / change.amax((1, 2), keepdim=True).clamp(min=1e-30)).sum(0)
        at = divmod(int(change.argmax()), grid[1])
        assert max(abs(at[0] - row), abs(at[1] - column)) <= 1, (at, (row, column))


@pytest.mark.parametrize("name", WITH_ATTENTION)
def test_recorded_attention_changes_no_feature(towers, name):
    tower, encode, size, _ = towers[name]
    pixels = torch.randn(1, 3, *size)
    recorded = []

    def record(weights):
        recorded.append(weights)
        return weights

    assert tower.attention_of(tower.blocks[-1]) is not None
    with torch.no_grad(), tower.attention_of(tower.blocks[-1]).recording(record):
        during = tower.pool(tower.places(pixels))
    (weights,) = recorded
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    torch.testing.assert_close(during, encode(pixels), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        tower.places(pixels)
    assert len(recorded) == 1  # nothing stays behind


def test_the_default_method_follows_the_pooling(towers):
    for name, expected in {
        "vit, class token": "attention",
        "vit, registers, patch 14, block": "attention",
        "clip vit": "attention",
        "vit, mean": "gradcam",
        "cnn": "gradcam",
        "swin": "gradcam",
    }.items():
        tower, _, size, _ = towers[name]
        assert choose(tower, torch.zeros(1, 3, *size)) == expected, name


def test_gradcam_of_a_mean_is_what_each_place_gives(towers):
    """For a feature that is the mean of a map, the gradient alone says what a place adds."""
    tower, _, size, _ = towers["cnn"]
    pixels = torch.randn(1, 3, *size)
    direction = torch.randn(512)
    (actual,) = localize(tower, pixels, [lambda features: features @ direction], method="gradcam")
    patches = tower.places(pixels).patches[0]
    expected = (patches @ direction / actual.numel()).relu()
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_several_objectives_share_a_pass(towers):
    tower, _, size, _ = towers["clip vit"]
    pixels = torch.randn(1, 3, *size)
    one, other = (raw_objective(torch.randn(32)) for _ in range(2))
    both = localize(tower, pixels, [one, other], method="attention")
    torch.testing.assert_close(both[1:], localize(tower, pixels, [other], method="attention"))
    assert not torch.equal(both[0], both[1])


def test_an_encoder_without_global_attention_is_refused(towers):
    tower, _, size, _ = towers["swin"]
    objective = raw_objective(torch.randn(192))
    with pytest.raises(LocalizeError, match="no attention over all of its patches"):
        localize(tower, torch.randn(1, 3, *size), [objective], method="attention")


def test_a_stream_without_places_is_refused(timm_encoder):
    class Pooled(torch.nn.Module):
        def forward_features(self, pixels):
            return pixels.mean((2, 3))

    with pytest.raises(LocalizeError, match="Pooled gives no features of places"):
        TimmTower(Pooled()).places(torch.zeros(1, 3, 8, 8))
    encoder = timm_encoder("resnet18", "?size=32")
    with pytest.raises(LocalizeError, match="a single place for the whole image"):
        open_tower(encoder)
