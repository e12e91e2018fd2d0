"""A new model joins a trained dictionary: the others do not change by a bit.

    python examples/new_model_joins.py

The new model is a toy that sees the colours of 8 x 8 places. From pairs of its own features and
those of dino and minilm it learns what the demo's latents stand for. (effnet stays out: features
1,280 wide need 640 rows, and the demo has 300.)
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import sparc
from sparc.train import JoinConfig, SaveConfig, join_run, save_run

folder = Path(tempfile.mkdtemp())
demo = sparc.ActivationCache("demo")
pictures = demo.thumbnails.images(range(demo.info.rows))
colours = [np.asarray(pictures[row].resize((8, 8))).ravel() / 255 - 0.5 for row in pictures]
np.save(folder / "colours.npy", np.array(colours, np.float32))

# Its features become a stream of a cache that has the others: here a copy of the demo's.
shutil.copytree(demo.folder.local, folder / "cache")
join = (sys.executable, "-m", "sparc.extract.cli", "import", folder, folder / "cache", "--join")
subprocess.run(join, check=True)

before = save_run("demo", folder / "two", SaveConfig(streams=("dino", "minilm")))
joining = JoinConfig(stream="colours")
model = join_run(folder / "two", folder / "cache", folder / "joined", joining)
for name, weights in before.state_dict().items():
    assert torch.equal(weights, model.state_dict()[name])

features = sparc.ActivationCache(folder / "cache").aligned(0, model.config.names).tensors()
codes = model.encode(features, "independent")
active = {name: code.dense() > 0 for name, code in codes.items()}
print("of the 16 latents of a picture in the model of colours, another model also has")
for name in before.config.names:
    same = (active["colours"] & active[name]).sum(1).float().mean()
    other = (active["colours"] & active[name].roll(1, 0)).sum(1).float().mean()
    print(f"  {name:<6} {same:.1f} for the same picture, {other:.1f} for another one")
