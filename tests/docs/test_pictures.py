"""What draws README's picture: its figures are those of the report that ships."""

import re
import runpy
from pathlib import Path

import sparc

SCRIPT = Path(__file__).parents[2] / "docs/images/latent.py"


def test_the_picture_of_a_latent_has_the_figures_of_its_report() -> None:
    report = sparc.Report("demo")
    page = runpy.run_path(str(SCRIPT))["page"](report, "violin")
    latent = int(re.search(r"latent (\d+)", page)[1])
    assert latent in report.concepts(word="violin", shared=True)["latent"].to_list()
    facts = report.latent(latent).facts
    counts = re.findall(r"(\d+)<span> of (\d+)</span>", page)
    assert [int(active) for _, active in counts] == [stream.images for stream in facts.streams]
    for (with_class, _), stream in zip(counts, facts.streams, strict=True):
        (violins,) = [share.rows for share in stream.classes if share.name == "violin"]
        assert int(with_class) == violins  # the report that ships has a row an image
    overlaps = sorted(pair.overlap for pair in facts.pairs)
    assert f"<b>{overlaps[0]:.2f} to {overlaps[-1]:.2f}</b>" in page
    assert page.count("data:image/png;base64,") == 1 + 5 + 5
