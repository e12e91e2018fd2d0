"""From your own arrays to concepts that two models share, with names.

    python examples/own_arrays.py

Features of any models will do, as long as row 17 of all of them is of the same thing. Here the two
models are made up, so that the truth is known: every row shows three of 40 things, and each model
writes every thing in a direction of its own.
"""

import tempfile
from pathlib import Path

import numpy as np

import sparc
from sparc.pipelines.demo.drawings import drawings

folder = Path(tempfile.mkdtemp())
draws = np.random.default_rng(0)
things = [drawing.name for drawing in drawings() if drawing.name.isalpha()][:40]
rows = np.array([draws.choice(40, size=3, replace=False) for _ in range(3000)])
captions = [f"a photo of {', '.join(things[i] for i in row)}" for row in rows]
there = np.zeros((3000, 40))
np.put_along_axis(there, rows, draws.uniform(0.5, 1.5, rows.shape), axis=1)
arrays = {
    name: there @ draws.normal(size=(40, dim)) + 0.3 * draws.normal(size=(3000, dim))
    for name, dim in (("first", 64), ("second", 96))
}

# Two thirds to learn from, the rest to be measured on. Put your own arrays here.
for split, part in (("learn", slice(0, 2000)), ("held-out", slice(2000, 3000))):
    features = {name: values[part] for name, values in arrays.items()}
    sparc.write_arrays(folder / split, features, captions=captions[part])
sparc.train(folder / "learn", folder / "run", latents=64, k=4, steps=400)
report = sparc.analyze(
    folder / "run", folder / "held-out", folder / "report", untrained=False, permuted=False
)

shared = report.concepts(shared=True)
pairs = shared[["name_first", "name_second"]].itertuples(index=False)
right = {first for first, second in pairs if first == second and first in things}
print(f"{len(shared)} latents are shared; {len(right)} of the 40 things have one of their name")
for number in shared["latent"][:5]:
    print(f"  {report.latent(number)!r}")
