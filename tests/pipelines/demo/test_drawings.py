import re
from collections import Counter, defaultdict
from pathlib import Path

from sparc.pipelines.demo.drawings import FOLDER, drawings, open_drawing
from sparc.pipelines.demo.encoders import REQUIREMENTS

BESIDE_THE_DRAWINGS = {"emoji.csv", "LICENSE", "NOTICE"}


def test_the_drawings_stay_within_four_megabytes():
    assert 150 <= len(drawings()) <= 300
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4_000_000


def test_every_file_is_a_named_drawing():
    listed = [drawing.file for drawing in drawings()]
    assert len(set(listed)) == len(listed)
    assert {file.name for file in FOLDER.iterdir()} == {*listed, *BESIDE_THE_DRAWINGS}
    for drawing in drawings():
        image = open_drawing(drawing)
        assert (image.mode, image.size) == ("RGBA", (128, 128))
        assert image.getchannel("A").getextrema() == (0, 255)


def test_the_licence_lies_beside_the_drawings():
    licence = (FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    notice = (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert "Noto Emoji" in notice
    assert "Apache" in notice
    assert "Changes" in notice


def test_names_are_distinct_and_stand_in_their_phrases():
    for field in ("name", "phrase", "code_point"):
        values = Counter(getattr(drawing, field) for drawing in drawings())
        assert values.most_common(1)[0][1] == 1
    for drawing in drawings():
        assert drawing.name.lower() in drawing.phrase.lower()


def test_the_tree_has_three_levels_without_crumbs():
    groups = defaultdict(set)
    for drawing in drawings():
        groups[drawing.subgroup].add(drawing.group)
    assert all(len(above) == 1 for above in groups.values())
    assert min(Counter(drawing.subgroup for drawing in drawings()).values()) >= 4
    assert min(Counter(drawing.group for drawing in drawings()).values()) >= 8


def test_every_wheel_is_pinned_and_hashed():
    text = re.sub(r"\\\n\s*", "", Path(REQUIREMENTS).read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line)
