"""A folder of pictures with captions, encoded by two models, and what these two share.

    python examples/folder_of_pictures.py                       # pictures of the demo, two toys
    python examples/folder_of_pictures.py pictures/ --hub       # yours, by DINOv2 and CLIP

The two toys see colours and brightness, so that nothing needs to be downloaded. `--hub` fetches the
pretrained models of preset dinov2-clip-b, as `sparc-extract run … --preset dinov2-clip-b` does.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F
from torchvision.transforms import Compose, Resize, ToTensor

import sparc
from sparc.extract.encoders import ImageModel, register_encoder

parser = argparse.ArgumentParser()
parser.add_argument("pictures", nargs="?", type=Path, help="A folder; captions may lie beside.")
parser.add_argument("--hub", action="store_true", help="Encode by DINOv2 and CLIP.")
typed = parser.parse_args()
folder = Path(tempfile.mkdtemp())


def pictures_of_the_demo() -> Path:
    """A folder as people have them: pictures, and a text file of the same name beside each."""
    demo = sparc.ActivationCache("demo")
    captions = demo.rows(["caption"])["caption"].to_pylist()
    pictures = folder / "pictures"
    pictures.mkdir()
    for row, picture in demo.thumbnails.images(range(len(captions))).items():
        picture.save(pictures / f"{row:03}.png")
        (pictures / f"{row:03}.txt").write_text(captions[row])
    return pictures


class Colours(torch.nn.Module):
    """The mean colour of 6 x 6 places."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(images, 6).flatten(1) - 0.5


class Greys(torch.nn.Module):
    """The mean brightness of 10 x 10 places."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 10).flatten(1) - 0.5


prepare = Compose([Resize((96, 96)), ToTensor()])
register_encoder("colours", lambda: ImageModel(Colours(), prepare))
register_encoder("greys", lambda: ImageModel(Greys(), prepare))
encoders = (
    {"preset": "dinov2-clip-b"}
    if typed.hub
    else {"streams": {"colours": "colours:", "greys": "greys:"}}
)

pictures = typed.pictures or pictures_of_the_demo()
for split in ("train", "test"):
    sparc.extract(pictures, folder / split, holdout=0.3, split=split, **encoders)
sparc.train(folder / "train", folder / "run", latents=64, k=8, steps=300)
report = sparc.analyze(
    folder / "run", folder / "test", folder / "report", untrained=False, permuted=False
)

concepts = report.concepts(shared=True)
print(f"{len(concepts)} concepts are shared by {' and '.join(report.info.streams)}")
for number in concepts["latent"][:5]:
    rows = report.latent(number).rows
    print(f"  latent {number} is strongest on")
    for row in rows[rows["place"] == 1].itertuples():
        print(f"    {row.stream:<8} {row.caption}")
