"""timm encoders against timm called by hand."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import timm.data
import torch

from sparc.common.errors import EncoderError
from sparc.extract.encoders import build_encoders, parse_spec
from sparc.extract.encoders.timm.models import TimmImageEncoder, TimmModel
from sparc.extract.encoders.timm.spec import TimmSpec

VIT, CNN = "vit_tiny_patch16_224", "test_resnet"


@pytest.fixture(scope="module")
def files(tmp_path_factory, save):
    """Weights files by architecture: random, with timm's own classifier where it has one."""
    folder = tmp_path_factory.mktemp("weights")
    suffixes = {
        VIT: ".safetensors",
        CNN: ".pth",
        "test_vit2": ".pt",
        "test_efficientnet": ".bin",
        "vit_small_patch14_reg4_dinov2": ".safetensors",
    }
    paths = {}
    for name, suffix in suffixes.items():
        torch.manual_seed(len(name))
        model = timm.create_model(name, pretrained=False)
        with torch.no_grad():  # as after training: norms and biases that matter, uneven tokens
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        paths[name] = save(model, folder / f"{name}{suffix}")
    return paths


@pytest.fixture(scope="module")
def by_hand(files):
    """timm's model with the file's weights, built by timm alone."""

    def by_hand(name, **options):
        return timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(files[name]), "custom_load": False},
            num_classes=0,
            **options,
        ).eval()

    return by_hand


def pixels_by_hand(model, pictures, size=None):
    args = {} if size is None else {"img_size": size}
    config = timm.data.resolve_model_data_config(model, args=args)
    transform = timm.data.create_transform(**config, is_training=False)
    return torch.stack([transform(picture) for picture in pictures])


def encode(encoder, pictures):
    return encoder.encode(torch.stack([encoder.prepare(picture) for picture in pictures]))


@pytest.mark.parametrize("name", [VIT, CNN, "test_vit2", "test_efficientnet"])
def test_default_features_are_what_timm_gives_its_classifier(
    name, build, files, by_hand, pictures, assert_same
):
    encoder = build(f"timm:{name}@{files[name]}")
    model = by_hand(name)
    pixels = pixels_by_hand(model, pictures)
    torch.testing.assert_close(
        torch.stack([encoder.prepare(p) for p in pictures]), pixels, rtol=0, atol=0
    )
    with torch.no_grad():
        expected = model(pixels)
    assert_same(encode(encoder, pictures), expected)
    assert encoder.dim == expected.shape[1]
    assert encoder.origin.input_size == tuple(pixels.shape[2:])


def test_position_embeddings_are_resampled_to_another_size(
    build, files, by_hand, pictures, assert_same
):
    encoder = build(f"timm:{VIT}@{files[VIT]}?size=96&pool=cls")
    # Two ways of timm: resampled as the weights are loaded, and at every forward pass.
    static = by_hand(VIT, img_size=96)
    dynamic = by_hand(VIT, dynamic_img_size=True)
    pixels = pixels_by_hand(static, pictures, 96)
    assert pixels.shape == (3, 3, 96, 96)
    with torch.no_grad():
        assert_same(encode(encoder, pictures), static(pixels))
        assert_same(encode(encoder, pictures), dynamic(pixels))
    assert encoder.origin.input_size == (96, 96)


def test_dinov2_with_registers_at_another_size(build, files, by_hand, pictures, assert_same):
    name = "vit_small_patch14_reg4_dinov2"  # 518 pixels of its own, as all of timm's DINOv2
    specs = {pool: f"timm:{name}@{files[name]}?size=56&pool={pool}" for pool in ("cls", "mean")}
    encoders = build_encoders(
        {pool: parse_spec(text) for pool, text in specs.items()}, torch.device("cpu")
    )
    model = by_hand(name, img_size=56)
    with torch.no_grad():
        tokens = model.forward_features(pixels_by_hand(model, pictures, 56))
    assert tokens.shape == (3, 1 + 4 + 16, 384)
    assert_same(encode(encoders["cls"], pictures), tokens[:, 0])
    assert_same(encode(encoders["mean"], pictures), tokens[:, 5:].mean(1))
    assert encoders["cls"].model is encoders["mean"].model


def test_a_convolutional_network_takes_any_size(build, files, by_hand, pictures, assert_same):
    encoder = build(f"timm:{CNN}@{files[CNN]}?size=72&pool=mean")
    model = by_hand(CNN)
    with torch.no_grad():
        maps = model.forward_features(pixels_by_hand(model, pictures, 72))
    assert maps.shape[2:] == (3, 3)
    assert_same(encode(encoder, pictures), maps.mean((2, 3)))


def test_a_feature_map_with_the_channels_last(build, save, pictures, tmp_path, assert_same):
    name = "test_mambaout"
    path = save(timm.create_model(name), tmp_path / "weights.safetensors")
    encoder = build(f"timm:{name}@{path}?pool=mean")
    model = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path), "custom_load": False},
        num_classes=0,
    ).eval()
    with torch.no_grad():
        maps = model.forward_features(pixels_by_hand(model, pictures))
    assert maps.shape[3] == model.num_features
    assert_same(encode(encoder, pictures), maps.mean((1, 2)))


def test_a_size_that_the_model_does_not_allow_is_refused(build, save, tmp_path):
    name = "mixer_s32_224"  # mixes a fixed number of patches
    path = save(timm.create_model(name), tmp_path / "weights.safetensors")
    with pytest.raises(EncoderError, match="at size=256, if it allows that size"):
        build(f"timm:{name}@{path}?size=256")


def test_the_test_size_comes_with_its_crop(build, save, tmp_path):
    # resnet10t: trained at 176 with a crop of 0.875, tested at 224 with 0.95.
    path = save(timm.create_model("resnet10t"), tmp_path / "resnet.safetensors")
    crops = {
        size: build(f"timm:resnet10t@{path}{size}").origin.preprocessing
        for size in ("", "?size=176", "?size=224")
    }
    assert "crop_pct 0.875" in crops[""]
    assert "crop_pct 0.875" in crops["?size=176"]
    assert "crop_pct 0.95" in crops["?size=224"]


@pytest.mark.parametrize("pool", ["cls", "mean", "default"])
def test_features_after_a_block(pool, build, files, by_hand, pictures, assert_same):
    encoder = build(f"timm:{VIT}@{files[VIT]}?block=3&pool={pool}")
    model = by_hand(VIT)
    seen = []
    model.blocks[3].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(pixels_by_hand(model, pictures))
    (tokens,) = seen
    assert_same(
        encode(encoder, pictures), tokens[:, 1:].mean(1) if pool == "mean" else tokens[:, 0]
    )
    assert "after block 3, before the final norm" in encoder.origin.pooling


def test_features_after_a_stage_of_a_convolutional_network(
    build, files, by_hand, pictures, assert_same
):
    encoder = build(f"timm:{CNN}@{files[CNN]}?block=2")
    model = by_hand(CNN)
    seen = []
    model.layer2.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        model(pixels_by_hand(model, pictures))
    assert_same(encode(encoder, pictures), seen[0].mean((2, 3)))


def test_the_mean_goes_through_a_norm_that_comes_after_pooling(
    build, files, by_hand, pictures, assert_same
):
    name = "test_vit2"  # pools by the mean, without a class token, and norms after that
    mean = build(f"timm:{name}@{files[name]}?pool=mean")
    assert not isinstance(mean.model.fc_norm, torch.nn.Identity)
    model = by_hand(name)
    with torch.no_grad():
        assert_same(encode(mean, pictures), model(pixels_by_hand(model, pictures)))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("pit_ti_224", "use pool=cls or pool=default$"),  # gives its class token alone
        ("volo_d1_224", "use pool=cls or pool=default$"),  # its class token among the others
        ("coat_lite_tiny", "use pool=default$"),  # the same, under another name
        ("crossvit_tiny_240", "several tensors of tokens: use pool=default$"),
    ],
)
def test_a_mean_of_what_may_not_be_patch_tokens_is_refused(name, advice):
    loaded = TimmModel(timm.create_model(name, num_classes=0).eval(), digest="", definition="")
    with pytest.raises(EncoderError, match=f"^timm:{name}.pool=mean: .*{advice}"):
        TimmImageEncoder(TimmSpec(name, pool="mean"), loaded, torch.device("cpu"))


@pytest.mark.parametrize(("name", "prefix"), [("hiera_tiny_224", 0), ("convit_tiny", 1)])
def test_patch_tokens_are_told_by_their_count(name, prefix, assert_same):
    model = timm.create_model(name, num_classes=0).eval().requires_grad_(False)
    if not model.feature_info[-1]["reduction"]:
        pytest.skip("this release of timm does not say how large the patches of this model are")
    spec = TimmSpec(name, pool="mean")
    encoder = TimmImageEncoder(
        spec, TimmModel(model, digest="", definition=""), torch.device("cpu")
    )
    pixels = torch.rand(2, 3, 224, 224)
    expected = model.forward_features(pixels)[:, prefix:].mean(1)
    assert_same(encoder.encode(pixels), getattr(model, "fc_norm", torch.nn.Identity())(expected))


def test_prepare_may_be_called_from_many_threads(build, files, pictures):
    encoder = build(f"timm:{CNN}@{files[CNN]}")
    alone = [encoder.prepare(picture) for picture in pictures * 20]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder.prepare, pictures * 20))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_origin_is_the_same_each_time_and_tells_weights_apart(build, files, save, tmp_path):
    first = build(f"timm:{VIT}@{files[VIT]}").origin
    assert build(f"timm:{VIT}@{files[VIT]}").origin == first
    # Position embeddings are resampled, the weights stay the same weights.
    assert build(f"timm:{VIT}@{files[VIT]}?size=96").origin.weights_sha256 == first.weights_sha256
    other = save(timm.create_model(VIT), tmp_path / "other.safetensors")
    assert build(f"timm:{VIT}@{other}").origin.weights_sha256 != first.weights_sha256
    assert first.preprocessing == (
        "timm evaluation transform: crop_pct 0.9, center crop, bicubic, mean (0.5, 0.5, 0.5), "
        "std (0.5, 0.5, 0.5)"
    )


def test_a_checkpoint_of_a_training_program_is_read(build, files, pictures, tmp_path, assert_same):
    state = torch.load(files[CNN], weights_only=True)
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, path)
    expected = encode(build(f"timm:{CNN}@{files[CNN]}"), pictures)
    assert_same(encode(build(f"timm:{CNN}@{path}"), pictures), expected)


def test_a_file_without_classifier_is_read(build, files, pictures, save, tmp_path, assert_same):
    plain = build(f"timm:{VIT}@{files[VIT]}")
    path = save(plain.model, tmp_path / "headless.safetensors")
    assert_same(encode(build(f"timm:{VIT}@{path}"), pictures), encode(plain, pictures))


@pytest.mark.parametrize(
    ("model", "file"), [(VIT, CNN), (CNN, VIT), ("vit_small_patch16_224", VIT), ("test_vit", VIT)]
)
def test_weights_of_another_model_are_refused(model, file, build, files):
    with pytest.raises(EncoderError, match="does not hold the weights of timm's") as caught:
        build(f"timm:{model}@{files[file]}")
    assert str(caught.value).isprintable()


def test_weights_that_lack_a_tensor_are_refused(build, files, tmp_path):
    state = torch.load(files[CNN], weights_only=True)
    lacking = next(name for name in state if name.endswith("conv2.weight"))
    del state[lacking]
    torch.save(state, tmp_path / "lacking.pth")
    with pytest.raises(EncoderError, match=lacking):
        build(f"timm:{CNN}@{tmp_path / 'lacking.pth'}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("test_vit2@{vit2}?pool=cls", "has no class token"),
        ("test_resnet@{cnn}?pool=cls", "has no class token"),
        ("vit_tiny_patch16_224@{vit}?block=12", "blocks are 0 to 11"),
        ("test_resnet@{cnn}?block=40", "cannot build"),
        ("vit_tiny_patch16_224@{vit}?size=100", "size must be a multiple of 16"),
        ("vit_tiny_patch61_224", "did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.nope", "nope"),
        ("timm/test_vit", "timm:hf-hub:timm/test_vit"),
        ("local:thing", "hf-hub"),
        ("vit_small_patch16_18x2_224", "add @FILE"),
        ("test_vit@/no/such/file.safetensors", "there is no weights file"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(options, message, build, files):
    text = options.format(vit=files[VIT], vit2=files["test_vit2"], cnn=files[CNN])
    with pytest.raises(EncoderError, match=message) as caught:
        build(f"timm:{text}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("model", ["test_vit", "hf-hub:timm/test_vit.r160_in1k"])
def test_without_the_hub_the_error_says_how_to_pass_a_file(model, build):
    with pytest.raises(
        EncoderError, match=r"hub cannot be reached.*(@weights\.safe|local-dir:)"
    ) as e:
        build(f"timm:{model}")
    assert model in str(e.value)
    assert str(e.value).isprintable()
