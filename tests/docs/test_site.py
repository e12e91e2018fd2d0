"""The pages to read: links lead somewhere, formulas are drawn, no server is asked for anything."""

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[2]
NOT_SHOWN = {"README.md", "analyze/browse/page/README.md"}
"""The pages of the repository that only its visitors read."""


@pytest.fixture(scope="module")
def make_site(tmp_path_factory):
    """Build pages with the site's settings, but without a theme and without plugins."""
    theme = tmp_path_factory.mktemp("theme")
    (theme / "mkdocs_theme.yml").write_text("")
    (theme / "main.html").write_text("{{ page.content }}")

    def make(**settings: object) -> Path:
        place = tmp_path_factory.mktemp("site")
        config = load_config(
            str(ROOT / "mkdocs.yml"),
            site_dir=str(place),
            plugins=[],
            theme={"name": None, "custom_dir": str(theme)},
            use_directory_urls=False,
            strict=True,
            **settings,
        )
        build(config)
        return place

    return make


@pytest.fixture(scope="module")
def site(make_site) -> Path:
    """All pages; whatever warns, such as a link or an anchor that leads nowhere, fails."""
    return make_site()


@pytest.fixture(scope="module")
def make_page(make_site, tmp_path_factory):
    """Build a page `guide/page.md` with a text, and give what is shown."""

    def make(text: str) -> str:
        folder = tmp_path_factory.mktemp("docs")
        (folder / "guide").mkdir()
        (folder / "guide/page.md").write_text(text)
        there = make_site(docs_dir=str(folder), nav=[{"Page": "guide/page.md"}], not_in_nav="*.md")
        return unescape((there / "guide/page.html").read_text())

    return make


@pytest.fixture(scope="module")
def page(make_page) -> str:
    return make_page(
        "It costs $5 or $6; `$a$` is code.\n\n$$\na_1 < b\n$$\n\n"
        "[a](../../analyze/REPORT.md#intervals) [b](../../train/reference.py) [c](#d) "
        "[e](https://example.org/f)\n\n## D\n"
    )


def test_every_page_of_the_repository_is_shown(site):
    hook = (ROOT / "docs/hooks/repository.py").read_text()
    folders = ("common", "extract", "train", "analyze", "pipelines", "tests")
    every = [*ROOT.glob("*.md"), *(page for top in folders for page in (ROOT / top).rglob("*.md"))]
    there = {page.relative_to(ROOT).as_posix() for page in every}
    assert len(there) > 5
    assert [file for file in there - NOT_SHOWN if f'"{file}"' not in hook] == []
    assert "normative" in (site / "formats/report.html").read_text()


def test_formulas_are_drawn_by_the_browser(site, page):
    shown = re.sub(r'alttext="[^"]*"', "", (site / "method.html").read_text())
    assert shown.count("<math") > 3
    assert not re.search(r"\\\(|\\\[|\$\$", shown)
    assert page.count("<math") == 1
    assert "<msub><mi>a</mi><mn>1</mn></msub><mo><</mo><mi>b</mi>" in page


def test_error_lines_are_what_the_style_breaks(site):
    style = (ROOT / "docs/assets/site.css").read_text()
    name = re.search(r"\.(language-\w+) code \{ white-space: pre-wrap", style)[1]
    assert f'class="{name} highlight"' in (site / "troubleshooting.html").read_text()


def test_links_hold_as_they_hold_in_the_repository(page):
    assert re.findall(r'<a href="([^"]*)">', page) == [
        "../formats/report.html#intervals",
        "https://github.com/sparc-sae/sparc/blob/main/train/reference.py",
        "#d",
        "https://example.org/f",
    ]


def test_what_the_code_declares_is_put_into_pages(site):
    settings = (site / "api/settings.html").read_text()
    assert "<td><code>latents</code></td>" in settings
    assert "<code>--no-permuted</code>" in settings
    table = (site / "tables/agreement.html").read_text()
    assert "<td><code>mispaired_sd</code></td>" in table
    assert "class NanoSparc" in re.sub("<[^>]*>", "", (site / "method.html").read_text())


def test_a_link_that_leads_nowhere_fails(make_page):
    links = ["../../train/none.py", "../../analyze/REPORT.md#none", "#none", "../../../etc/passwd"]
    with pytest.raises(Abort, match="with 4 warnings in strict mode"):
        make_page(" ".join(f"[a]({link})" for link in links))


def test_the_first_question_of_the_home_page_has_an_answer():
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/index.md").read_text(), re.DOTALL)
    (first,) = code
    *before, question = first.strip().splitlines()
    there: dict[str, object] = {}
    exec("\n".join(before), there)
    answer = eval(question, there)
    assert set(answer["name_dino"]) == {"owl"}


@pytest.mark.slow
def test_the_site_asks_no_server_for_anything(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*https?://[^>]*>", page.read_text())
        assert loaded == [], page
    assert (tmp_path / "search/search_index.js").exists()
    train = (tmp_path / "api/train.html").read_text()
    assert "</a>sparc.train(" in re.sub("<span[^>]*>|</span>", "", train)
    assert 'href="#sparc.train.TrainConfig"><code>sparc.train.TrainConfig</code></a>' in train
