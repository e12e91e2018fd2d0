import pyarrow as pa
import pytest

from sparc.analyze.report.figure_names import ENDS
from sparc.analyze.report.figures import figures
from sparc.analyze.report.tables import file_of, table_bytes
from sparc.common.files.folder import Folder


def write(folder, table, rows):
    content = table_bytes(table, pa.Table.from_pylist(rows), about={})
    (folder / file_of(table)).write_bytes(content)


def test_the_interval_of_a_mean_is_the_mean_of_the_intervals(tmp_path):
    def row(source, target, *nmse):
        names = ("nmse", "nmse_low", "nmse_high")
        explained = dict.fromkeys(f"explained_variance{end}" for end in ENDS)
        about = {"mode": "joint", "control": "trained", "source": source, "target": target}
        return {**about, **dict(zip(names, nmse, strict=True)), **explained}

    rows = [row("a", "a", 0.1, 0, 0.2), row("a", "b", 0.5, 0.4, 0.7), row("b", "a", 0.7, 0.6, 0.8)]
    write(tmp_path, "reconstruction", rows)
    summary = figures(Folder(tmp_path))
    assert summary["nmse_cross/joint/trained"] == pytest.approx(0.6)
    assert summary["nmse_cross_low/joint/trained"] == pytest.approx(0.5)
    assert summary["nmse_cross_high/joint/trained"] == pytest.approx(0.75)
    assert summary["nmse_self_low/joint/trained"] == 0
    assert summary["explained_variance_cross_low/joint/trained"] is None


def test_explained_variance_of_a_target_is_a_mean_over_the_other_sources(tmp_path):
    values = {("a", "a"): 0.9, ("b", "a"): 0.5, ("c", "a"): -0.1, ("a", "b"): 0.3}
    ends = {f"{figure}{end}": None for figure in ("nmse", "explained_variance") for end in ENDS}
    rows = [
        {"mode": "joint", "control": "trained", "source": source, "target": target}
        | {**ends, "explained_variance": value}
        for (source, target), value in values.items()
    ]
    write(tmp_path, "reconstruction", rows)
    summary = figures(Folder(tmp_path))
    assert summary["explained_variance_self/joint/trained/a"] == pytest.approx(0.9)
    assert summary["explained_variance_cross/joint/trained/a"] == pytest.approx(0.2)
    assert summary["explained_variance_cross/joint/trained/b"] == pytest.approx(0.3)
    assert summary["explained_variance_cross/joint/trained"] == pytest.approx((0.5 - 0.1 + 0.3) / 3)


def test_the_intervals_of_purity_are_those_of_the_finest_classes(tmp_path):
    about = {"mode": "joint", "control": "trained"}
    rows = [
        {**about, "restriction": restriction, "depth": depth, "purity": value}
        | {"purity_low": value and value - 0.1, "purity_high": value and value + 0.2}
        for restriction, depth, value in (
            ("all_rows", 1, 0.3), ("all_rows", 2, 0.4), ("all_rows", 2, 0.6),
            ("all_rows", 2, None), ("top_rows", 2, 0.7),
        )
    ]  # fmt: skip
    write(tmp_path, "purity_means", rows)
    summary = figures(Folder(tmp_path))
    assert summary == {
        "purity/joint/trained": pytest.approx(0.5),
        "purity_low/joint/trained": pytest.approx(0.4),
        "purity_high/joint/trained": pytest.approx(0.7),
    }


def test_the_intervals_of_monosemanticity_are_apart_for_own_and_other_features(tmp_path):
    rows = [
        {"mode": "joint", "control": "trained", "stream": stream, "reference": reference}
        | dict(zip(("value", "value_low", "value_high"), values, strict=True))
        for stream, reference, values in (
            ("a", "a", (0.5, 0.4, 0.6)), ("b", "b", (0.7, 0.6, 0.9)), ("a", "b", (0.2, 0.1, 0.3)),
        )
    ]  # fmt: skip
    write(tmp_path, "monosemanticity_means", rows)
    summary = figures(Folder(tmp_path))
    assert summary == {
        "monosemanticity_own/joint/trained": pytest.approx(0.6),
        "monosemanticity_own_low/joint/trained": pytest.approx(0.5),
        "monosemanticity_own_high/joint/trained": pytest.approx(0.75),
        "monosemanticity_cross/joint/trained": 0.2,
        "monosemanticity_cross_low/joint/trained": 0.1,
        "monosemanticity_cross_high/joint/trained": 0.3,
    }
