"""A further renderer is one function and one line in the registry: here one that a test defines."""

import html
import math

import pytest

from sparc.analyze.report.renderers.registry import RENDERERS


def render(page):
    rows = [
        f"<tr><td>{html.escape(line.text)}<td>{column.cell(line).text}"
        for section in page.sections
        for _, line in page.shown(section)
        for column in page.columns
    ]
    notes = [html.escape(why) for section in page.sections for why in page.why_unmeasured(section)]
    return f"<p>{html.escape(page.explanation())}<table>{''.join(rows)}</table>{notes}"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(RENDERERS, ".html", f"{__name__}:render")


@pytest.fixture(scope="module")
def analyzed(make_cache, saved_model, call, tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyzed")
    cache = make_cache(folder / "cache", rows=60).folder.local
    arguments = ("run", saved_model, cache, folder / "report", "--rows", 60, "--device", "cpu")
    done = call("analyze", *arguments, "--summary", folder / "new" / "page.txt")
    assert done.returncode == 0, done.stderr
    assert (folder / "new" / "page.txt").read_text().strip() == done.stdout.strip()
    return arguments


def test_a_command_writes_what_the_suffix_says(analyzed, call, tmp_path):
    file = tmp_path / "page.html"
    again = call("analyze", *analyzed, "--summary", file)  # not a setting that decides the report
    assert again.returncode == 0, again.stderr
    shown = file.read_text()
    assert shown.startswith("<p>independent: each stream")
    assert "<td>alive in all streams" in shown
    compared = call("analyze", "compare", analyzed[3], "--summary", file)
    assert compared.returncode == 0, compared.stderr
    assert file.read_text() == shown
    assert math.isfinite(float(shown.partition("NMSE")[2].partition("<td>")[2].partition("<")[0]))


def test_other_files_and_suffixes_are_refused(analyzed, call, tmp_path):
    (tmp_path / "notes.txt").write_text("my notes")
    for command in (analyzed, ("compare", analyzed[3])):
        done = call("analyze", *command, "--summary", tmp_path / "notes.txt")
        assert done.returncode == 2
        assert "notes.txt exists and is not a summary of SPARC: choose" in done.stderr
        done = call("analyze", *command, "--summary", tmp_path / "page.pdf")
        assert done.returncode == 2
        assert f"its suffix must be one of {', '.join(RENDERERS)}" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "my notes"
    assert not (tmp_path / "page.pdf").exists()
