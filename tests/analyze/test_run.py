"""Whole reports, made in this process and read back with plain pyarrow and Zarr."""

import dataclasses
import json
import re
import shutil
from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from scipy import stats

from sparc.analyze import AnalyzeConfig, Report, analyze
from sparc.analyze.codes.code_sets import CodeSet
from sparc.analyze.codes.permutation import Permutation
from sparc.analyze.measures.registry import MEASURES
from sparc.common.cache.arrays import write_arrays
from sparc.common.errors import LockedError, ReportError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive

# Permuting needs two blocks: 32 rows a chunk, 64 rows a block, 150 rows.
SETTINGS = AnalyzeConfig(top_rows=4, rows=60, permute_rows=64, scheduler="sync", device="cpu")


@pytest.fixture(scope="module")
def cache(make_cache, tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), dtype="float32")


@pytest.fixture(scope="module")
def report(cache, saved_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return analyze(saved_model, cache.folder.local, folder, SETTINGS)


def files(folder):
    """The content of every file of a report but the one that says when it was locked."""
    root = Folder(folder)
    return {name: root.read(name) for name in root.files()}


def plain_features(cache):
    """The normalized features and logits of every valid row, without any code of ours."""
    group = zarr.open_group(cache.folder.local / "activations.zarr", mode="r")
    features = {s: group[f"{s}/features"][:].astype(np.float64) for s in cache.stream_names}
    valid = np.logical_and.reduce([group[f"{s}/valid"][:] for s in features])
    return {s: x[valid] for s, x in features.items()}, np.flatnonzero(valid)


def plain_logits(model, stream, x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    part = {
        name: getattr(model, name)[stream].detach().double().numpy()
        for name in ("encoder", "pre_bias", "latent_bias")
    }
    return (x - part["pre_bias"]) @ part["encoder"].T + part["latent_bias"]


def select(decides, logits, k):
    result = np.zeros_like(logits)
    for row, values in enumerate(decides):
        chosen = np.argsort(-values)[:k]
        result[row, chosen] = np.maximum(logits[row, chosen], 0)
    return result


def stored_codes(report, code_set, stream, latents):
    """Dense codes of the analysed rows, read with plain Zarr."""
    group = zarr.open_group(report.folder.local / "codes.zarr", mode="r")
    valid = group["valid"][:]
    own = f"{code_set}/{stream}/indices"
    indices = group[own if own in group else f"{code_set}/indices"][:][valid]
    values = group[f"{code_set}/{stream}/values"][:][valid]
    result = np.zeros((len(indices), latents))
    np.put_along_axis(result, indices.astype(np.int64), values, axis=1)
    return result


def test_codes_are_those_of_plain_arrays(report, cache, model):
    features, _ = plain_features(cache)
    logits = {s: plain_logits(model, s, x) for s, x in features.items()}
    total, k, latents = sum(logits.values()), model.config.k, model.config.latents
    for stream, each in logits.items():
        for code_set, decides in (("trained/joint", total), ("trained/independent", each)):
            stored = stored_codes(report, code_set, stream, latents)
            np.testing.assert_allclose(stored, select(decides, each, k), atol=1e-6)


def test_permuted_codes_are_those_of_permuted_features(report, cache, model):
    features, rows = plain_features(cache)
    chunk_of = rows // 32
    permutation = Permutation(
        counts=tuple(np.bincount(chunk_of).tolist()),
        sizes=np.bincount(rows // 2),
        block_rows=64,
        seed=42,
    )
    assert len(permutation.blocks) == 3
    logits = {}
    for position, stream in enumerate(model.config.names):
        moved = np.empty_like(features[stream])
        for block, chunks in enumerate(permutation.blocks):
            (values,) = permutation.gather(
                block, position, lambda c, x=features[stream]: [x[chunk_of == c]]
            )
            moved[np.isin(chunk_of, chunks)] = values
        assert sorted(moved[:, 0]) == sorted(features[stream][:, 0])
        logits[stream] = plain_logits(model, stream, moved)
    total = sum(logits.values())
    for stream, each in logits.items():
        stored = stored_codes(report, "permuted_before/joint", stream, model.config.latents)
        np.testing.assert_allclose(stored, select(total, each, model.config.k), atol=1e-6)


def test_tables_are_read_by_plain_pyarrow(report, cache):
    for name in report.tables:
        table = pq.read_table(report.folder.local / f"{name}.parquet")
        about = json.loads(table.schema.metadata[b"sparc"])
        assert about["table"] == name
        assert about["rows"] == 149
        assert about["cache"] == str(cache.folder.local)
        assert about["manifest_digest"] == cache.info.manifest_digest
        assert "sparc" in about["versions"]
        assert report.table(name).equals(table)
    by_run = [measure for measure in MEASURES if not measure.added_by]
    assert set(report.tables) == {table.name for measure in by_run for table in measure.tables}


def test_every_cross_model_table_has_both_modes_and_their_controls(report):
    expected = {
        ("joint", "trained"), ("joint", "permuted_before"), ("joint", "permuted_after"),
        ("independent", "trained"), ("independent", "permuted"),
    }  # fmt: skip
    for name in (
        "alive", "monosemanticity_means", "overlap_means", "purity_means", "reconstruction",
        "row_overlap", "streams",
    ):  # fmt: skip
        sets = {(x["mode"], x["control"]) for x in report.table(name).to_pylist()}
        assert sets == expected, name
    sets = {
        (x["mode"], x["control"])
        for x in report.table("retrieval").to_pylist()
        if x["space"] == "codes"
    }
    assert sets == expected
    sets = {
        (x["mode"], x["control"])
        for x in report.table("classification").to_pylist()
        if x["space"] == "codes"
    }
    assert sets == expected


def test_alive_latents_are_those_of_the_codes(report, model):
    for mode in ("joint", "independent"):
        alive = sum(
            (stored_codes(report, f"trained/{mode}", s, 40) > 0).any(axis=0).astype(int)
            for s in model.config.names
        )
        listed = [
            x["latents"]
            for x in report.table("alive").to_pylist()
            if (x["mode"], x["control"]) == (mode, "trained")
        ]
        assert listed == np.bincount(alive, minlength=4).tolist()


def test_agreement_is_that_of_the_codes(report, cache, model):
    """The finest classes, all rows, the mean over all latents, by plain loops."""
    _, rows = plain_features(cache)
    table = pq.read_table(cache.folder.local / "rows.parquet")
    label_ids = [set(table["label_ids"][int(r)].as_py()) for r in rows]
    for mode in ("joint", "independent"):
        codes = {s: stored_codes(report, f"trained/{mode}", s, 40) for s in model.config.names}
        values = []
        for latent in range(40):
            counts = {}
            for stream, dense in codes.items():
                by_class = {}
                for row, ids in enumerate(label_ids):
                    for class_id in ids if dense[row, latent] > 0 else ():
                        by_class[class_id] = by_class.get(class_id, 0) + 1
                if by_class:
                    counts[stream] = by_class
            pairs = []
            for a, b in combinations(counts.values(), 2):
                both = [(a.get(c, 0), b.get(c, 0)) for c in {*a, *b}]
                pairs.append(sum(map(min, both)) / sum(map(max, both)))
            values.append(np.mean(pairs) if pairs else 0)
        (line,) = [
            x
            for x in report.table("agreement").to_pylist()
            if (x["mode"], x["control"], x["depth"]) == (mode, "trained", 3)
            and (x["first"], x["restriction"], x["averaged_over"]) == (None, "all_rows", "all")
        ]
        assert line["value"] == pytest.approx(np.mean(values))
        assert report.summary[f"agreement/{mode}/trained/depth 3"] == line["value"]


def test_without_a_stream_the_selection_is_that_of_the_others(report, cache, model):
    """On the same sampled images as retrieval, 60 rows."""
    lines = report.table("left_out_selection").to_pylist()
    names = model.config.names
    assert [x["left_out"] for x in lines if x["stream"] is None] == list(names)
    rows = report.table("left_out_reconstruction").to_pylist()
    whole = {(x["source"], x["target"]): x["nmse"] for x in rows if x["left_out"] is None}
    assert len(whole) == 9
    assert len(rows) == 9 + 3 * 6
    for line in (x for x in lines if x["stream"] is None):
        key = f"left_out_kept/trained/{line['left_out']}"
        assert 0 < line["jaccard"] < line["kept"] == report.summary[key] < 1


def test_every_figure_of_several_models_has_its_interval(report):
    for name, figures in {
        "agreement": ["value", "excess"],
        "monosemanticity_means": ["value"],
        "overlap_means": ["value"],
        "purity_means": ["purity"],
        "row_overlap": ["jaccard", "cosine"],
        "reconstruction": ["nmse", "explained_variance"],
        "retrieval": ["r_at_1", "r_at_5", "r_at_10", "mean_reciprocal_rank"],
        "classification": ["mean_average_precision"],
    }.items():
        lines = report.table(name).to_pylist()
        for figure in figures:
            ends = [(x[f"{figure}_low"], x[figure], x[f"{figure}_high"]) for x in lines]
            assert all(low <= value <= high for low, value, high in ends), name
            assert np.mean([low < high for low, _, high in ends]) > 0.5, name
    for figure in (
        "agreement/independent/trained/depth 3", "nmse_cross/independent/permuted",
        "monosemanticity_own/independent/trained", "monosemanticity_cross/joint/permuted_before",
        "purity/joint/permuted_after",
    ):  # fmt: skip
        name, rest = figure.split("/", 1)
        low, high = (report.summary[f"{name}{end}/{rest}"] for end in ("_low", "_high"))
        assert low < report.summary[figure] < high


def groups_of_three():
    """The group of each image that is in one: 20 groups of three images out of 75."""
    dealt = np.random.default_rng([42, 75]).permutation(75)[:60]
    return dict(zip(dealt.tolist(), (np.arange(60) % 20).tolist(), strict=True))


def margin_of(values):
    """The half width of an interval, from the figures without each of these groups."""
    share = 3 / 75
    squares = sum((value - np.mean(values)) ** 2 for value in values)
    return 2.0930240544 * np.sqrt((1 - share) ** 2 / (share * 19) * squares)


def test_the_interval_of_agreement_is_that_of_dense_arrays(report, cache):
    """The pair of dino and clip_text at the finest classes; of 75 images 60 are sampled."""
    _, rows = plain_features(cache)
    label_ids = pq.read_table(cache.folder.local / "rows.parquet")["label_ids"].to_pylist()
    carried = np.zeros((len(rows), 1 + max(max(ids, default=0) for ids in label_ids)))
    for position, row in enumerate(rows.tolist()):
        carried[position, list(set(label_ids[row]))] = 1
    labelled = carried.any(axis=1)
    images = np.eye(75)[rows // 2].T
    with_label = images @ labelled > 0
    sampled = with_label & np.isin(np.arange(75), list(groups_of_three()))
    values_of = [
        stored_codes(report, "trained/independent", stream, 40) * labelled[:, None]
        for stream in ("dino", "clip_text")
    ]
    a, b = ((values > 0).astype(float) for values in values_of)
    x, y = (images @ active for active in (a, b))

    def images_known(values, latent):
        """How many sampled images have the latent, or how many its list: 4 rows and 2 more."""
        listed = np.argsort(-values[:, latent], kind="stable")[:6]
        listed = images[:, listed] @ (values[listed, latent] > 0)
        of_sampled = (images @ (values[:, latent] > 0))[sampled]
        return max(np.count_nonzero(listed), np.count_nonzero(of_sampled))

    squares, number = ((x - y)[sampled] ** 2).sum(axis=0), (x + y)[sampled].sum(axis=0)
    noise = (squares + 4 * squares.sum() / number.sum()) / (number + 4)
    values, variance, moved = np.zeros(40), 0, np.zeros(75)
    for latent in range(40):
        first, second = a[:, latent] @ carried, b[:, latent] @ carried
        if not first.any() or not second.any():
            continue
        shared, either = np.minimum(first, second).sum(), np.maximum(first, second).sum()
        values[latent] = shared / either
        by_shared, by_total = (shared + either) / either**2, -shared / either**2
        spread = noise[latent] * (first + second) - (first - second) ** 2 / with_label.sum()
        spread = np.sqrt(np.maximum(spread, 1e-12))
        z = (second - first) / spread
        p, density = stats.norm.cdf(z), stats.norm.pdf(z)
        rest = (z**2 + 1) * p + z * density - (z * p + density) ** 2 - p**2
        variance += by_shared**2 * (spread**2 * rest).sum()
        none = np.exp(-min(images_known(of_stream, latent) for of_stream in values_of))
        variance += values[latent] ** 2 * none * (1 - none)
        for active, slope in ((a, p), (b, 1 - p)):
            moved += images @ (active[:, latent] * (carried @ (by_total + by_shared * slope)))
    variance += np.var(moved[sampled], ddof=1) * with_label.sum()
    margin = stats.t.ppf(0.975, sampled.sum() - 1) * np.sqrt(variance) / 40
    (line,) = [
        x
        for x in report.table("agreement").to_pylist()
        if (x["mode"], x["control"], x["depth"]) == ("independent", "trained", 3)
        and (x["first"], x["second"]) == ("dino", "clip_text")
        and (x["restriction"], x["averaged_over"]) == ("all_rows", "all")
    ]
    assert line["value"] == pytest.approx(values.mean())
    assert line["value_high"] - line["value"] == pytest.approx(margin, rel=1e-3)
    assert line["value"] - line["value_low"] == pytest.approx(margin, rel=1e-3)


@pytest.mark.parametrize(
    ("mode", "control", "stored"),
    [
        ("independent", "trained", "trained/independent"),
        ("joint", "permuted_before", "permuted_before/joint"),
    ],
)
def test_intervals_of_purity_are_those_of_images_left_out(report, cache, mode, control, stored):
    """The finest classes of dino's rows by loops; labels stay where features move."""
    _, rows = plain_features(cache)
    label_ids = pq.read_table(cache.folder.local / "rows.parquet")["label_ids"].to_pylist()
    codes = stored_codes(report, stored, "dino", 40)
    group_of = groups_of_three()

    def mean_purity(left_out):
        purities = []
        for values in codes.T:
            counts = Counter()
            active = [
                set(label_ids[row])
                for row, value in zip(rows.tolist(), values, strict=True)
                if value > 0 and label_ids[row] and group_of.get(row // 2) != left_out
            ]
            for carried in active:
                counts.update(carried)
            if active:
                purities.append(max(counts.values()) / len(active))
        return np.mean(purities)

    margin = margin_of([mean_purity(group) for group in range(20)])
    (line,) = [
        x
        for x in report.table("purity_means").to_pylist()
        if (x["mode"], x["control"], x["depth"]) == (mode, control, 3)
        and (x["stream"], x["restriction"]) == ("dino", "all_rows")
    ]
    assert line["purity"] == pytest.approx(mean_purity(-1))
    assert line["purity_high"] - line["purity"] == pytest.approx(margin)
    assert line["purity"] - line["purity_low"] == pytest.approx(margin)


def test_retrieval_is_on_distinct_images_and_all_captions(report):
    for line in report.table("retrieval").to_pylist():
        captions = {"clip_text": 60}
        assert line["queries"] == captions.get(line["source"], 30)
        assert line["candidates"] == captions.get(line["target"], 30)
    raw = [x for x in report.table("retrieval").to_pylist() if x["space"] == "raw"]
    assert {(x["source"], x["target"]) for x in raw} == {
        ("clip_image", "clip_text"),
        ("clip_text", "clip_image"),
    }


def test_classes_are_predicted_from_one_row_of_each_labelled_image(report, cache):
    lines = report.table("classification").to_pylist()
    spaces = [x["space"] for x in lines]
    assert {s: spaces.count(s) for s in spaces} == {"raw": 3, "codes": 15, "reconstruction": 18}
    labels = pq.read_table(cache.folder.local / "rows.parquet")["label_ids"].to_pylist()
    parents = pq.read_table(cache.folder.local / "classes.parquet")["parent_id"].to_pylist()

    def is_of(class_id, row):
        above = set(labels[row])
        while above and class_id not in above:
            above = {parents[c] for c in above} - {None}
        return class_id in above

    labelled = {row // 2 for row, ids in enumerate(labels) if ids and row != 5}
    assert {x["images"] for x in lines} == {min(60, len(labelled))}
    for line in report.table("probe").to_pylist():
        first = [r for r in range(150) if labels[r] and r != 5]
        seen = {r // 2: r for r in reversed(first)}.values()
        assert line["images"] == sum(is_of(line["class_id"], r) for r in seen)
    assert any(parents.count(x["class_id"]) for x in report.table("probe").to_pylist())


def test_unrelated_rows_are_not_found(report):
    """Chance is 1 in 30 images or 2 in 60 captions; joint selection leaks even so."""
    codes = [x for x in report.table("retrieval").to_pylist() if x["space"] == "codes"]

    def mean(mode, control):
        shares = [x["r_at_1"] for x in codes if (x["mode"], x["control"]) == (mode, control)]
        return np.mean(shares)

    assert mean("independent", "permuted") < 0.15
    assert mean("joint", "permuted_after") < 0.15
    assert mean("joint", "permuted_before") > 0.3


def without_scheduler(**changes):
    return AnalyzeConfig(
        **{**{f: getattr(SETTINGS, f) for f in SETTINGS.__dataclass_fields__}, **changes}
    )


@pytest.mark.parametrize("workers", [1, 4])
def test_workers_do_not_change_a_byte(report, cache, saved_model, tmp_path, workers):
    settings = without_scheduler(scheduler="threads", workers=workers)
    analyze(saved_model, cache.folder.local, tmp_path, settings)
    assert files(tmp_path) == files(report.folder.local)


def test_a_cluster_does_not_change_a_byte(report, cache, saved_model, tmp_path, capsys):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
    ) as cluster:
        settings = without_scheduler(scheduler=cluster.scheduler_address)
        analyze(saved_model, cache.folder.local, tmp_path, settings)
    assert files(tmp_path) == files(report.folder.local)
    assert "to be written by the workers of the cluster" in capsys.readouterr().err


def test_chunks_of_another_size_give_the_same_counts(
    report, make_cache, saved_model, tmp_path_factory
):
    """Only the trained sets: permutations in blocks depend on the chunks."""
    whole = make_cache(tmp_path_factory.mktemp("cache"), rows_per_chunk=1000, dtype="float32")
    settings = without_scheduler(permuted=False)
    other = analyze(saved_model, whole.folder.local, tmp_path_factory.mktemp("r"), settings)
    for name in ("agreement", "alive", "purity_means", "selection", "streams"):
        lines = [x for x in report.table(name).to_pylist() if x["control"] == "trained"]
        assert other.table(name).to_pylist() == lines, name
    assert other.table("purity").equals(report.table("purity"))
    assert other.table("cofiring").equals(report.table("cofiring"))
    for name in (
        "left_out_reconstruction", "left_out_selection", "monosemanticity_means", "overlap_means",
        "reconstruction", "retrieval",
    ):  # fmt: skip
        lines = [x for x in report.table(name).to_pylist() if x["control"] == "trained"]
        assert len(other.table(name)) == len(lines)
        for a, b in zip(other.table(name).to_pylist(), lines, strict=True):
            for column, value in b.items():
                near = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
                assert a[column] == near, (name, column)
    top = [x["top_rows"] for x in report.table("latents").to_pylist()]
    assert other.table("latents")["top_rows"].to_pylist() == top


def test_what_is_missing_is_made_again_and_nothing_else(report, cache, saved_model, tmp_path):
    shutil.copytree(report.folder.local, tmp_path, dirs_exist_ok=True)
    complete = files(tmp_path)
    for lost in (
        "summary.json",
        "agreement.parquet",
        "codes.zarr/trained/joint/dino/values/c/2/0",
        "codes.zarr/permuted_before/joint/indices/c/4/0",
    ):
        (tmp_path / lost).unlink()
    (
        tmp_path / "codes.zarr/trained/joint/indices/c/0/0.0123456789abcdef0123456789abcdef.partial"
    ).write_bytes(b"half")
    with pytest.raises(ReportError, match="has not been finished: run the same"):
        Report(tmp_path)
    analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)
    assert files(tmp_path) == complete


def test_a_table_may_be_longer_than_any_document(report, cache, saved_model, tmp_path, monkeypatch):
    """Pairs of 8,192 latents are: a report of them could not be finished."""
    again = tmp_path / "report"
    shutil.copytree(report.folder.local, again)
    (again / "summary.json").unlink()
    documents = [*again.rglob("*.json"), *cache.folder.local.rglob("*.json")]
    longest = 1000 + max(path.stat().st_size for path in documents)
    assert (again / "latents.parquet").stat().st_size > longest
    with monkeypatch.context() as patch:
        patch.setitem(Folder.read.__kwdefaults__, "largest", longest)
        analyze(saved_model, cache.folder.local, again, SETTINGS)
    assert files(again) == files(report.folder.local)


def test_a_finished_report_is_not_touched(report, cache, saved_model, monkeypatch):
    monkeypatch.setattr("sparc.analyze.run.encode_missing", pytest.fail)
    before = files(report.folder.local)
    analyze(saved_model, cache.folder.local, report.folder.local, SETTINGS)
    assert files(report.folder.local) == before


def test_a_report_on_something_else_is_refused(
    report, cache, make_cache, model, saved_model, tmp_path
):
    where = report.folder.local
    with pytest.raises(ReportError, match=r"\(seed: 42 there, 7 now\)"):
        analyze(saved_model, cache.folder.local, where, without_scheduler(seed=7))
    other = make_cache(tmp_path / "cache", rows=140)
    with pytest.raises(ReportError, match="rows of the cache"):
        analyze(saved_model, other.folder.local, where, SETTINGS)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.latent_bias["dino"].data[0] += 1
    model.save(tmp_path / "other")
    model.load_state_dict(state)
    with pytest.raises(ReportError, match=r"\(model: "):
        analyze(tmp_path / "other", cache.folder.local, where, SETTINGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("all there is")
    with pytest.raises(ReportError, match=r"not a report \(it holds thesis.txt\)"):
        analyze(saved_model, cache.folder.local, tmp_path / "full", SETTINGS)


def test_one_writer_at_a_time(cache, saved_model, tmp_path):
    with exclusive(Folder(tmp_path)), pytest.raises(LockedError, match="is being written by"):
        analyze(saved_model, cache.folder.local, tmp_path, SETTINGS)


def test_streams_that_are_missing_are_left_out_and_named(make_cache, saved_model, tmp_path):
    cache = make_cache(tmp_path / "cache", streams=("clip_text", "dino"))
    report = analyze(saved_model, cache.folder.local, tmp_path / "report", SETTINGS)
    assert report.info.streams == ("dino", "clip_text")
    assert any("clip_image is left out" in note.text for note in report.info.notes)
    pairs = {(x["first"], x["second"]) for x in report.table("overlap_means").to_pylist()}
    assert pairs == {("dino", "clip_text")}


def test_without_labels_there_is_no_agreement_and_the_report_says_so(
    make_cache, saved_model, tmp_path
):
    cache = make_cache(tmp_path / "cache", labels=False)
    settings = without_scheduler(untrained=False)
    report = analyze(saved_model, cache.folder.local, tmp_path / "report", settings)
    assert "agreement" not in report.tables
    with pytest.raises(ReportError, match=r"no table 'agreement'.*no analysed row has a label"):
        report.table("agreement")
    assert not any(name.startswith("agreement") for name in report.summary)


def test_one_stream(make_cache, saved_model, tmp_path):
    cache = make_cache(tmp_path / "cache", streams=("dino",))
    report = analyze(saved_model, cache.folder.local, tmp_path / "report", SETTINGS)
    assert len(report.table("overlap")) == len(report.table("retrieval")) == 0
    assert len(report.table("left_out_selection")) == 0
    assert len(report.table("latents")) == len(report.table("monosemanticity")) == 2 * 40
    assert [x["alive_streams"] for x in report.table("alive").to_pylist()][:2] == [0, 1]
    (line, *_) = report.table("reconstruction").to_pylist()
    assert (line["source"], line["target"]) == ("dino", "dino")
    assert any("one stream" in note.text for note in report.info.notes)


def test_without_captions_there_are_no_names_and_the_report_says_so(saved_model, tmp_path):
    generator = np.random.default_rng(0)
    dims = {"dino": 24, "clip_image": 16, "clip_text": 16}
    features = {name: generator.normal(size=(30, dim)) for name, dim in dims.items()}
    write_arrays(tmp_path / "cache", features, rows_per_chunk=16)
    settings = without_scheduler(untrained=False)
    report = analyze(saved_model, tmp_path / "cache", tmp_path / "report", settings)
    assert "naming" not in report.tables
    with pytest.raises(ReportError, match=r"no table 'naming'.*the cache has no captions"):
        report.table("naming")


@pytest.mark.parametrize(
    "name",
    [
        "report.json",
        "summary.json",
        "streams.parquet",
        "codes.zarr/zarr.json",
        "codes.zarr/trained/joint/indices/zarr.json",
        "codes.zarr/permuted_before/joint/dino/values/c/2/0",
    ],
)
def test_a_damaged_file_is_noticed_and_made_again(
    report, cache, saved_model, tmp_path, name, capsys
):
    shutil.copytree(report.folder.local, tmp_path / "report")
    file = tmp_path / "report" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(ReportError, match=r"(damaged|missing|readable)"):
        read_everything(Report(tmp_path / "report"))
    analyze(saved_model, cache.folder.local, tmp_path / "report", SETTINGS)
    assert files(tmp_path / "report") == files(report.folder.local)
    assert re.search("(made anew|written again|made again)", capsys.readouterr().err)
    read_everything(Report(tmp_path / "report"))


def read_everything(report):
    report.check()
    assert report.summary
    for name in report.tables:
        assert report.table(name).column_names
    store = report.codes
    for code_set in (CodeSet("joint"), CodeSet("independent"), CodeSet("joint", "permuted_before")):
        for chunk in range(store.layout.chunks):
            store.read(code_set, chunk)


def test_another_report_takes_the_place_where_that_is_asked_for(
    report, cache, saved_model, tmp_path, call
):
    folder, cache = tmp_path / "report", cache.folder.local
    shutil.copytree(report.folder.local, folder)
    call("analyze", "search", folder, "--row=1", "--in=dino")
    command = ("analyze", "run", saved_model, cache, folder, "--rows=50", "--top-rows=4",
               "--permute-rows=64", "--no-permuted", "--no-untrained", "--device=cpu")  # fmt: skip
    refused = call(*command)
    assert "remove this report with --overwrite" in refused.stderr
    done = call(*command, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert Report(folder).info.settings["rows"] == 50
    assert not (folder / "index").exists()
    call("analyze", "run", saved_model, cache, tmp_path / "new", *command[5:], "--overwrite")
    assert files(tmp_path / "new").keys() == files(folder).keys()


def test_overwriting_removes_nothing_but_a_report(report, cache, saved_model, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(report.folder.local, folder)
    before = files(folder)
    with pytest.raises(SparcError, match="not an activation cache"):
        analyze(saved_model, tmp_path / "nowhere", folder, SETTINGS, overwrite=True)
    some = dataclasses.replace(SETTINGS, streams=("x",))
    with pytest.raises(SparcError, match=r"\bx\b"):
        analyze(saved_model, cache.folder.local, folder, some, overwrite=True)
    assert files(folder) == before
    (folder / "notes.txt").write_text("what this report is about")
    with pytest.raises(ReportError, match=r"holds notes\.txt besides the report, so nothing is ov"):
        analyze(saved_model, cache.folder.local, folder, SETTINGS, overwrite=True)
    (folder / "notes.txt").unlink()
    assert files(folder) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("somebody's only photo")
    with pytest.raises(ReportError, match=r"not a report .it holds cat\.jpg"):
        analyze(saved_model, cache.folder.local, tmp_path / "photos", SETTINGS, overwrite=True)
    assert (tmp_path / "photos/cat.jpg").exists()
