"""Takes the guide's picture of a page of `sparc-analyze browse`, with a windowless Chromium.

After `make demo`:  .venv/bin/python docs/images/browse.py demo/site --latent 275
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).with_suffix(".webp")
SIZE = "1280,885"
"""Of the window: what a latent's images in all three streams take."""

MILLISECONDS = 10_000
"""That the page has, by its own clock, to load and draw."""


def take(site: Path, latent: int) -> None:
    """Show a latent's page, and write it as a picture beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        subprocess.run(
            [
                *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
                *("--hide-scrollbars", f"--window-size={SIZE}"),
                *(f"--virtual-time-budget={MILLISECONDS}", f"--screenshot={shot}"),
                f"{(site / 'index.html').resolve().as_uri()}#/latent/{latent}",
            ],
            check=True,
        )
        Image.open(shot).convert("RGB").save(PICTURE, quality=80, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="What `sparc-analyze browse` made.")
    parser.add_argument("--latent", type=int, required=True, help="Whose page is shown.")
    typed = parser.parse_args()
    take(typed.site, typed.latent)
