"""A data set with planted concepts, names and bias: the report has them, and nothing else.

Images show concepts; each stream encodes some of them, as its own directions; the model's latents
are those directions. The expected report follows from which image shows which concept.
"""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sparc.analyze import AnalyzeConfig, analyze
from sparc.analyze.bias.command import bias, show
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.concepts import page
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.concepts.evidence import elsewhere, same_number
from sparc.analyze.concepts.find import find
from sparc.analyze.concepts.gather import Evidence
from sparc.analyze.concepts.meaning import with_meaning
from sparc.analyze.report.folder import Report
from sparc.analyze.show.latent import latent as show_latent
from sparc.analyze.show.page import show as show_page
from sparc.common.cache.arrays import write_arrays
from sparc.common.cache.tables import CLASSES
from sparc.common.errors import ConfigError
from sparc.train import ModelConfig, Sparc, StreamShape

STREAMS = ("dino", "clip", "text")
CONCEPTS = (
    "apple", "boat", "cat", "dog", "egg", "fish", "gate",  # in all streams
    "apron",  # in all streams, more often with the attribute
    "knife", "board",  # in all streams; with the attribute mostly together
    "beard",  # only in dino, more often with the attribute
    "stripe",  # only in dino
    "poem",  # only in text
    "left", "right",  # latent 13 is `left` in dino and clip, but `right` in text; 14 the reverse
)  # fmt: skip
ENCODED = {
    "dino": {*range(12), 13, 14},
    "clip": {*range(10), 13, 14},
    "text": {*range(10), 12, 13, 14},
}
IMAGES, LATENTS, K, DIM = 2000, 24, 12, 32


def concept_of(stream, latent):
    """The concept of a latent in a stream; None if it has none."""
    if stream == "text" and latent in (13, 14):
        latent = {13: 14, 14: 13}[latent]
    return latent if latent in ENCODED[stream] else None


@pytest.fixture(scope="module")
def shown():
    """Which image shows which concept (images, concepts), and which has the attribute."""
    generator = np.random.default_rng(11)
    attribute = generator.random(IMAGES) < 0.4
    chance = np.full((IMAGES, len(CONCEPTS)), 0.15)
    for concept in ("apron", "beard"):
        chance[:, CONCEPTS.index(concept)] = np.where(attribute, 0.4, 0.1)
    result = generator.random(chance.shape) < chance
    knife, board = CONCEPTS.index("knife"), CONCEPTS.index("board")
    # Their frequencies are unchanged, but with the attribute they mostly occur together.
    together = generator.random(IMAGES) < 0.8
    result[:, board] = np.where(attribute & together, result[:, knife], result[:, board])
    return result, attribute


@pytest.fixture(scope="module")
def report(shown, tmp_path_factory):
    concepts, _ = shown
    generator = np.random.default_rng(12)
    model = Sparc(
        ModelConfig(
            streams=tuple(StreamShape(stream, DIM) for stream in STREAMS), latents=LATENTS, k=K
        )
    )
    features = {}
    for stream in STREAMS:
        directions = np.linalg.qr(generator.normal(size=(DIM, DIM)))[0]
        visible = concepts * np.isin(np.arange(len(CONCEPTS)), list(ENCODED[stream]))
        # A direction that every image has keeps those without a concept from being zero.
        values = visible @ directions[: len(CONCEPTS)] + directions[-1]
        features[stream] = np.repeat(values, 2, axis=0).astype(np.float32)
        encoder = directions[np.arange(LATENTS) % len(CONCEPTS) + 16]  # no concept
        for latent in range(LATENTS):
            if concept_of(stream, latent) is not None:
                encoder[latent] = directions[concept_of(stream, latent)]
        with torch.no_grad():
            model.encoder[stream].copy_(torch.from_numpy(encoder))
            model.decoder[stream].copy_(torch.from_numpy(encoder))
            model.latent_bias[stream].fill_(-0.1)
    captions, labels = [], []
    for of_image in concepts:
        words = [CONCEPTS[c] for c in np.flatnonzero(of_image)]
        captions += [f"a photo of {' and '.join(words)}", "some other words"]
        labels += [np.flatnonzero(of_image[:10]).tolist()] * 2
    columns = {
        "class_id": range(10),
        "key": [f"/{c}" for c in CONCEPTS[:10]],
        "name": CONCEPTS[:10],
        "parent_id": [None] * 10,
        "depth": [1] * 10,
    }
    root = tmp_path_factory.mktemp("planted")
    write_arrays(
        root / "cache",
        features,
        modality={"text": "text"},
        sample_ids=[f"p{row // 2}" for row in range(2 * IMAGES)],
        captions=captions,
        label_ids=labels,
        classes=pa.table(columns, schema=CLASSES),
        rows_per_chunk=667,  # images lie across chunks
    )
    model.save(root / "model")
    settings = AnalyzeConfig(rows=400, probe_rows=1000, scheduler="threads", device="cpu")
    return analyze(root / "model", root / "cache", root / "report", settings)


def planted_agreement(concepts, first, second):
    """J of every latent from what images show, without any code: None where one is dead."""
    values = []
    for latent in range(LATENTS):
        pair = [concept_of(s, latent) for s in (first, second)]
        if None in pair:
            values.append(None)
            continue
        a, b = (concepts[concepts[:, concept]][:, :10].sum(axis=0) for concept in pair)
        values.append(np.minimum(a, b).sum() / np.maximum(a, b).sum())
    return values


def test_agreement_is_that_of_the_planted_concepts(report, shown):
    concepts, _ = shown
    lines = {
        (x["first"], x["second"], x["averaged_over"]): x["value"]
        for x in report.table("agreement").to_pylist()
        if (x["mode"], x["control"], x["depth"]) == ("independent", "trained", 1)
        and x["restriction"] == "all_rows"
    }
    by_latent = [[] for _ in range(LATENTS)]
    for pair in combinations(STREAMS, 2):
        values = planted_agreement(concepts, *pair)
        known = [v for v in values if v is not None]
        assert lines[*pair, "alive"] == pytest.approx(np.mean(known))
        for latent, value in enumerate(values):
            by_latent[latent] += [] if value is None else [value]
        # Shared concepts agree fully.
        assert values[:10] == [1] * 10
    means = [np.mean(values) if values else 0 for values in by_latent]
    assert lines[None, None, "all"] == pytest.approx(np.mean(means))


def test_latents_that_mean_the_same_agree_more_than_any_two(report):
    lines = [x for x in report.table("agreement").to_pylist() if x["control"] == "trained"]
    for line in lines:
        if line["depth"] == 1 and line["averaged_over"] == "alive":
            # Ten of twelve agree fully; those that changed places are of all classes.
            assert line["mispaired"] < 0.6
            assert line["excess"] > 0.5
            assert line["excess_low"] > 0
        if line["first"] is None and line["restriction"] == "all_rows":
            kind = "agreement" + ("_alive" if line["averaged_over"] == "alive" else "")
            where = f"{line['mode']}/trained/depth {line['depth']}"
            for name in ("mispaired", "excess", "excess_low", "excess_high"):
                assert report.summary[f"{kind}_{name}/{where}"] == line[name]


def test_alive_latents_are_the_planted_ones(report):
    (actual,) = {
        tuple(
            x["latents"]
            for x in report.table("alive").to_pylist()
            if (x["mode"], x["control"]) == (mode, "trained")
        )
        for mode in ("joint", "independent")
    }
    # Nine stand for nothing, three for what one stream sees, twelve are everywhere.
    assert actual == (9, 3, 0, 12)


@pytest.mark.parametrize("mode", ["joint", "independent"])
def test_names_are_the_planted_ones_and_no_other(report, mode):
    results = {}
    for line in report.table("naming").to_pylist():
        if line["mode"] == mode:
            results.setdefault((line["stream"], line["latent"]), []).append(line["word"])
    expected = {
        (stream, latent): [CONCEPTS[concept_of(stream, latent)]]
        for stream in STREAMS
        for latent in range(LATENTS)
        if concept_of(stream, latent) is not None
    }
    assert {key: words[:1] for key, words in results.items()} == expected
    # Knife and board, and what goes with the attribute, come together: they may share their names.
    linked = {"knife", "board", "apron", "beard"}
    for words in results.values():
        assert len(words) == 1 or set(words) <= linked


def test_the_class_of_a_latent_is_the_planted_one(report, shown):
    concepts, _ = shown
    labelled = concepts[:, :10].any(axis=1)
    for line in report.table("purity").to_pylist():
        if line["mode"] == "independent":
            concept = concept_of(line["stream"], line["latent"])
            if concept is None:
                assert line["class_id"] is line["purity"] is line["lift"] is None
            elif concept < 10:
                assert (line["class_id"], line["purity"]) == (concept, 1)
                base = concepts[labelled, concept].mean()
                assert line["base_rate"] == pytest.approx(base)
            else:  # of no class: one is as good as another
                assert line["purity"] < 0.6 or line["restriction"] == "top_rows"
    means = {
        x["control"]: x["purity"]
        for x in report.table("purity_means").to_pylist()
        if (x["mode"], x["stream"], x["restriction"]) == ("independent", "dino", "all_rows")
    }
    assert means["permuted"] < 0.35 < 0.75 < means["trained"]


def test_latents_are_monosemantic_in_the_streams_that_encode_them(report):
    any_two = {
        (x["mode"], x["stream"], x["reference"]): x
        for x in report.table("monosemanticity_means").to_pylist()
        if x["control"] == "trained"
    }
    for line in report.table("monosemanticity").to_pylist():
        concept = concept_of(line["stream"], line["latent"])
        if concept is None:
            assert line["score"] is None
            continue
        chance = any_two[line["mode"], line["stream"], line["reference"]]["any_two"]
        if concept in ENCODED[line["reference"]]:
            assert line["score"] > chance + 0.05
        elif line["mode"] == "independent":  # beard goes with apron, which all of them see
            assert abs(line["score"] - chance) < 0.03
    for line in report.table("monosemanticity_means").to_pylist():
        if line["control"] in ("permuted", "permuted_after"):
            assert line["value"] == pytest.approx(line["any_two"], abs=0.02)


def test_cofiring_latents_are_those_of_one_concept_or_of_linked_ones(report):
    linked = [{"knife", "board"}, {"apron", "beard"}]
    results = {}
    for line in report.table("cofiring").to_pylist():
        if line["mode"] == "independent":
            pair = [
                CONCEPTS[concept_of(line[side], line[f"{side}_latent"])]
                for side in ("first", "second")
            ]
            assert pair[0] == pair[1] or set(pair) in linked
            results.setdefault((line["first"], line["second"]), set()).add(
                (line["first_latent"], line["second_latent"])
            )
    for stream in STREAMS:
        assert (8, 9) in results[stream, stream]
        assert (7, 10) in results["dino", "dino"]
    for first, second in combinations(STREAMS, 2):
        for concept in ENCODED[first] & ENCODED[second]:
            # Where two latents changed places, the second stream has it elsewhere.
            at = [
                next(x for x in range(LATENTS) if concept_of(stream, x) == concept)
                for stream in (first, second)
            ]
            assert tuple(at) in results[first, second]


@pytest.fixture(scope="module")
def table_file(shown, tmp_path_factory):
    _, attribute = shown
    generator = np.random.default_rng(13)
    order = generator.permutation(IMAGES)
    table = pa.table(
        {
            "sample_id": [f"p{i}" for i in order],
            "planted": attribute[order],
            "unrelated": generator.random(IMAGES) < 0.4,
        }
    )
    file = tmp_path_factory.mktemp("table") / "attributes.csv"
    pa.csv.write_csv(table, file)
    return file


def associations(results, control="trained"):
    return {
        (x["stream"], CONCEPTS[concept_of(x["stream"], x["latent"])]): x
        for x in results.tables.associations.to_pylist()
        if x["associated"] and x["control"] == control
    }


def test_associations_are_the_planted_ones(report, table_file, shown):
    concepts, attribute = shown
    config = BiasConfig(attribute=f"table:{table_file}#planted", q=0.01)
    actual = bias(report, config)
    lines = associations(actual)
    assert {key: line["sharing"] for key, line in lines.items()} == {
        ("dino", "apron"): "all",
        ("clip", "apron"): "all",
        ("text", "apron"): "all",
        ("dino", "beard"): "own",
    }
    for (_, concept), line in lines.items():
        column = concepts[:, CONCEPTS.index(concept)]
        assert line["names"][0] == concept
        assert line["frequency_with"] == column[attribute].mean()
        assert line["frequency_without"] == column[~attribute].mean()
        assert line["log_odds_low"] < np.log((0.4 / 0.6) / (0.1 / 0.9)) < line["log_odds_high"]
        for row in line["example_rows"]:
            assert column[row // 2]
            assert attribute[row // 2]
    assert associations(actual, "shuffled") == {}
    pairs = {
        (x["stream"], x["first_names"][0], x["second_names"][0]): x
        for x in actual.tables.pairs.to_pylist()
    }
    assert set(pairs) == {(stream, "knife", "board") for stream in STREAMS}
    for line in pairs.values():
        assert line["streams"] == list(STREAMS)
        met = concepts[:, 8] & concepts[:, 9]
        assert line["frequency_with"] == met[attribute].mean()
        assert all(met[row // 2] and attribute[row // 2] for row in line["example_rows"])
    text = show(actual, config)
    assert "apron" in text
    assert "knife" in text


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_same_bias_whatever_the_workers(report, table_file, workers):
    alone, several = (
        bias(
            report,
            BiasConfig(attribute=f"table:{table_file}#planted", scheduler=how, workers=workers),
        ).tables
        for how in ("sync", "threads")
    )
    assert alone.associations.equals(several.associations)
    assert alone.pairs.equals(several.pairs)


def test_an_independent_attribute_has_no_associations(report, table_file):
    actual = bias(report, BiasConfig(attribute=f"table:{table_file}#unrelated", q=0.01))
    assert associations(actual) == {}
    assert len(actual.tables.pairs) == 0


def test_a_class_goes_with_its_own_latent(report):
    actual = associations(bias(report, BiasConfig(attribute="class:cat", q=0.01)))
    assert {key for key in actual if actual[key]["log_odds"] > 3} == {(s, "cat") for s in STREAMS}


def test_words_go_with_their_own_latent(report):
    actual = associations(bias(report, BiasConfig(attribute="words:Fish,cod", q=0.01)))
    assert {key for key in actual if actual[key]["log_odds"] > 3} == {(s, "fish") for s in STREAMS}


def test_the_best_latent_of_a_class_is_the_planted_one(report):
    for line in report.table("probe").to_pylist():
        if (line["mode"], line["control"]) == ("independent", "trained"):
            assert line["latent"] == line["class_id"]
            assert line["accuracy"] == 1
        if line["control"] == "permuted":
            assert line["log_loss"] > 0.6


def test_concepts_lists_what_streams_share_and_what_only_one_has(report):
    evidence = Evidence(report)

    def latents(**settings):
        return sorted(find(evidence, ConceptsConfig(**settings)).table["latent"].to_pylist())

    # The planted number must be the same: `left` and `right` change places in text.
    assert latents(shared=True) == list(range(10))
    assert latents(only="dino") == [CONCEPTS.index("beard"), CONCEPTS.index("stripe")]
    assert latents(only="clip") == []
    assert latents(only="text") == [CONCEPTS.index("poem")]
    assert find(evidence, ConceptsConfig(only="dino")).unclear == 0
    # dino and clip share latent 13, which text has as 14: it is not lacking.
    assert [latents(lacking=stream) for stream in STREAMS] == [[], [], []]
    left = CONCEPTS.index("left")
    assert evidence.sharing.same["dino", "clip"].shared[left]
    assert not evidence.sharing.same["dino", "text"].shared[left]
    assert evidence.sharing.elsewhere["dino", "text"].latent[left] == CONCEPTS.index("right")


class WithoutNames(Report):
    """A report that has no name for some latents."""

    nameless = ()

    def table(self, name):
        table = super().table(name)
        if name != "naming":
            return table
        return table.filter([x not in self.nameless for x in table["latent"].to_pylist()])


def test_latents_of_one_stream_that_nothing_goes_with_are_listed_where_all_are_asked_for(report):
    wanted, every = ConceptsConfig(only="dino"), ConceptsConfig(only="dino", all=True)
    assert find(Evidence(report), wanted).meaningless == 0
    beard, stripe = CONCEPTS.index("beard"), CONCEPTS.index("stripe")
    unnamed = WithoutNames(str(report.folder))
    unnamed.nameless = (beard, stripe)
    evidence = Evidence(unnamed)
    # Neither is a class, but beards occur with aprons, which are one.
    assert np.flatnonzero(with_meaning(evidence, "dino")).tolist() == [*range(11), 13, 14]
    result = find(evidence, wanted)
    assert result.table["latent"].to_pylist() == [beard]
    assert "and 1 latent that no word and no class goes with in dino" in page.show(result, wanted)
    assert set(find(evidence, every).table["latent"].to_pylist()) == {beard, stripe}
    unnamed.nameless = (stripe,)
    assert find(Evidence(unnamed), every).table["latent"].to_pylist() == [beard, stripe]


def test_what_one_stream_lacks_is_what_the_others_share(report):
    """Without clip, dino and text have two streams' concepts; with it, `apron` is in all."""
    evidence = Evidence(report)
    sharing = evidence.sharing
    everywhere = sharing.shared_by(STREAMS)
    for stream in STREAMS:
        others = tuple(s for s in STREAMS if s != stream)
        by_hand = sharing.shared_by(others) & ~everywhere
        for other in others:
            by_hand &= sharing.elsewhere[other, stream].lacking
        wanted = find(evidence, ConceptsConfig(lacking=stream)).table["latent"].to_pylist()
        assert sorted(wanted) == np.flatnonzero(by_hand).tolist()


def test_agreement_of_latents_is_that_of_the_report(report):
    evidence = Evidence(report)
    table = report.table("agreement").to_pylist()
    for (first, second), figure in evidence.agreed.items():
        (line,) = (
            row
            for row in table
            if (row["mode"], row["control"], row["first"], row["second"])
            == ("independent", "trained", first, second)
            and (row["restriction"], row["averaged_over"]) == ("all_rows", "alive")
            and row["depth"] == max(evidence.labels.lifts)
        )
        assert np.nanmean(figure.value) == pytest.approx(line["value"])
        # Its draws are some of the pairings whose mean this is.
        assert np.nanmean(figure.mispaired) == pytest.approx(line["mispaired"], abs=0.03)


def test_a_class_or_a_word_finds_its_latent(report):
    evidence = Evidence(report)
    cat = CONCEPTS.index("cat")
    by_class = find(evidence, ConceptsConfig(of_class="cat")).table
    assert by_class["latent"][0].as_py() == cat
    assert by_class["class_overlap"][0].as_py() == 1
    assert find(evidence, ConceptsConfig(word="Cat")).table["latent"].to_pylist() == [cat]
    with pytest.raises(ConfigError, match="named 'cats'; similar names: cat"):
        find(evidence, ConceptsConfig(word="cats"))


def test_concepts_on_the_command_line(report, call, tmp_path):
    shown = call("analyze", "concepts", report.folder, "--shared", "--out", tmp_path / "x.csv")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("10 latents shared by dino, clip and text;")
    assert "cat | cat | cat" in shown.stdout
    csv = pyarrow.csv.read_csv(tmp_path / "x.csv").to_pylist()
    call("analyze", "concepts", report.folder, "--shared", "--out", tmp_path / "x.parquet")
    parquet = pq.read_table(tmp_path / "x.parquet")
    assert [row["latent"] for row in csv] == parquet["latent"].to_pylist()
    assert min(parquet["overlap_excess"].to_pylist()) > 0.9
    assert set(parquet["thin"].to_pylist()) == {None}
    with (tmp_path / "mine.csv").open("w") as file:
        file.write("my own table\n")
    refused = call("analyze", "concepts", report.folder, "--out", tmp_path / "mine.csv")
    assert "not a CSV file" in refused.stderr or "is not a" in refused.stderr
    refused = call("analyze", "concepts", report.folder, "--only", "dina")
    assert refused.stderr.endswith("has no stream 'dina' for --only; it has dino, clip, text\n")


def test_without_meaning_in_common_nothing_is_shared(report):
    """Images of one stream in another order: frequencies stay, and what was shared is gone."""
    evidence = Evidence(report)
    active = evidence.activity.active
    order = np.random.default_rng(1).permutation(active["dino"].shape[1])
    same = same_number(active["dino"][:, order], active["clip"])
    assert not same.shared.any()
    assert abs(np.nanmean(same.overlap.excess)) < 0.02
    # And without shared latents there is no measure of what lacking would be.
    assert not elsewhere(active["dino"][:, order], active["clip"], same, seed=1).lacking.any()


def test_show_gathers_what_the_report_says_of_a_latent(report, shown):
    concepts, _ = shown
    cat = CONCEPTS.index("cat")
    view = show_latent(Evidence(report), cat)
    assert view.shared
    assert view.only == view.lacking == view.nearest == ()
    images = set(np.flatnonzero(concepts[:, cat]).tolist())
    for stream in view.streams:
        assert stream.images == len(images)
        assert stream.rows == 2 * len(images)
        assert stream.names[0].word == "cat"
        assert (stream.classes[0].name, stream.classes[0].share) == ("cat", 1)
        assert stream.classes[0].base_rate < 0.3
        entries = (*stream.strongest, *stream.quantiles)
        assert {entry.row // 2 for entry in entries} <= images
        assert [e.place for e in stream.strongest] == [1, 2, 3, 4, 5]
        values = [entry.value for entry in entries]
        assert values == sorted(values, reverse=True)
    assert all(pair.shared and pair.overlap == pair.agreement == 1 for pair in view.pairs)
    assert [p.latent for p in show_latent(Evidence(report), CONCEPTS.index("knife")).partners] == [
        CONCEPTS.index("board")
    ] * 3
    stripe = show_latent(Evidence(report), CONCEPTS.index("stripe"))
    assert stripe.only == ("dino",)
    assert [(n.stream, n.lacking) for n in stripe.nearest] == [("dino", True)] * 2
    assert show_page(stripe).startswith("latent 11: only in dino: no latent of another stream")
    assert show_page(stripe._replace(only=("dino", "text"))).startswith(
        "latent 11: one number for unrelated things in dino, text: "
    )


def test_show_and_search_by_latent_on_the_command_line(report, call, tmp_path):
    cat = CONCEPTS.index("cat")
    done = call("analyze", "show", report.folder, "--latent", cat, "--sheet", tmp_path / "cat.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("latent 2: shared by dino, clip, text\n")
    assert "24 images left an empty frame" in done.stderr  # the cache is of arrays
    with Image.open(tmp_path / "cat.png") as sheet:
        assert sheet.width > sheet.height > 600
    listed = call("analyze", "search", report.folder, "--latent", cat, "--in", "dino")
    assert listed.returncode == 0, listed.stderr
    names = [line.split("because")[-1] for line in listed.stdout.splitlines()[1:]]
    assert len(names) == 12
    assert all(line.rstrip().endswith("cat") for line in names)
    refused = call("analyze", "show", report.folder, "--latent", 24)
    assert refused.stderr.endswith("has no latent 24: its latents are 0 to 23\n")
    assert call("analyze", "show", report.folder).stderr == (
        "error: say which latent with --latent, such as --latent 42\n"
    )
    dead = call("analyze", "show", report.folder, "--latent", 23)
    assert dead.stdout.startswith("latent 23: active on none of 2,000 images")


def test_bias_says_what_a_small_sample_cannot_show(report, call, tmp_path):
    rows = [f"p{image},{str(image < 2).lower()}" for image in range(19)]
    (tmp_path / "few.csv").write_text("\n".join(["sample_id,mine", *rows]) + "\n")
    attribute = f"table:{tmp_path / 'few.csv'}#mine"
    small = call("analyze", "bias", report.folder, "--attribute", attribute)
    assert "2 of 19 images have it" in small.stdout
    assert small.stdout.count("NOTHING COULD BE FOUND") == len(STREAMS)
    large = call("analyze", "bias", report.folder, "--attribute", "words:cat")
    assert "NOTHING COULD BE FOUND" not in large.stdout
    assert large.stdout.count("the smallest effect that would be found") == len(STREAMS)
    # All images with a cat have its latent and no others do: how strong that is, no data say.
    line = next(x for x in large.stdout.splitlines() if x.split()[:2] == ["2", "cat"])
    assert "WIDE" in line
