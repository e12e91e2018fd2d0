"""The commands that ask a question of a report or a run have one shape, and name options alike."""

import dataclasses
from itertools import combinations
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from sparc.analyze import arguments, cli, options
from sparc.analyze.bias.config import BiasConfig
from sparc.analyze.browse.config import BrowseConfig
from sparc.analyze.concepts.config import ConceptsConfig
from sparc.analyze.config import AnalyzeConfig
from sparc.analyze.direct import name_latents
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.name.config import NameConfig
from sparc.analyze.recorded_encoders import specs_by_stream
from sparc.analyze.search.command import search
from sparc.analyze.search.config import SearchConfig
from sparc.analyze.show.config import ShowConfig
from sparc.analyze.stability.config import StabilityConfig
from sparc.common.cache.arrays import write_arrays
from sparc.common.cli.app import command, new_app
from sparc.common.cli.output import display
from sparc.common.config import load_config, option
from sparc.common.errors import ConfigError

QUESTIONS = {
    "bias": BiasConfig,
    "browse": BrowseConfig,
    "concepts": ConceptsConfig,
    "localize": LocalizeConfig,
    "name": NameConfig,
    "search": SearchConfig,
    "show": ShowConfig,
    "stability": StabilityConfig,
}
COMMANDS = {"run": AnalyzeConfig, **QUESTIONS}
OWN_MEANING = {
    "text",
    "latent",
    "mode",
    "streams",
    "cache",
    "out",
    "seed",
    "source",
    "template",
    "device",
    "workers",
}
"""Settings whose help says what they are in this command."""


def test_every_question_is_a_folder_and_a_command() -> None:
    commands = set(typer.main.get_group(cli.app).commands)  # type: ignore[attr-defined]
    assert commands == {"run", "compare", *QUESTIONS}
    for name in QUESTIONS:
        folder = Path(cli.__file__).parent / name
        assert {"config.py", "command.py"} <= {path.name for path in folder.iterdir()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountConfig:
    """The settings of a question that this test adds."""

    above: float = option(0.5, "Count values above this.")
    out: Path | None = options.out_file()
    cache: str = options.moved_cache()
    seed: int = options.seed("the rows that are drawn")

    def __post_init__(self) -> None:
        options.check_at_least(self, 0, "seed")


def test_a_further_question_takes_its_arguments_and_options_from_the_shared_ones() -> None:
    app = new_app("The analysis, with one question more.")

    def count(report: Annotated[str, arguments.REPORT], config: CountConfig) -> None:
        """Count something."""
        display(f"{report} {config.above} {config.out} {config.seed}")

    command(app, SearchConfig, "search")(search)
    command(app, CountConfig, "search")(count)
    runner = CliRunner()
    asked = runner.invoke(app, ["count", "report", "--out", "t.parquet", "--seed", "3"])
    assert asked.stdout == "report 0.5 t.parquet 3\n"
    refused = runner.invoke(app, ["count", "report", "--seed", "-1"])
    assert refused.exit_code == 2
    assert refused.stderr == "error: seed must not be negative, not -1\n"
    mine, others = (
        " ".join(runner.invoke(app, [name, "--help"]).stdout.split())
        for name in ("count", "search")
    )
    for shared in (
        "Write the table to this Parquet file, a path or URL.",
        "Where the report's cache is",
    ):
        assert shared in mine
        assert shared in others


@pytest.mark.parametrize(("one", "other"), list(combinations(COMMANDS, 2)))
def test_the_same_options_have_the_same_names_order_and_help(one: str, other: str) -> None:
    fields = [{f.name: f for f in dataclasses.fields(COMMANDS[name])} for name in (one, other)]
    common = [[name for name in own if name in fields[0] and name in fields[1]] for own in fields]
    assert common[0] == common[1]
    for name in common[0]:
        mine, others = (own[name].metadata for own in fields)
        assert mine["flag"] == others["flag"]
        assert name in OWN_MEANING or mine["help"] == others["help"], name


def test_no_option_is_a_former_name_of_another_command() -> None:
    """What one command calls by a new name, no other may call by the old one."""
    fields = [field for config in COMMANDS.values() for field in dataclasses.fields(config)]
    former = {field.metadata["former"] for field in fields} - {None}
    assert former == {"max_pictures", "output", "picture", "text_stream"}
    assert not former & {field.name for field in fields}


def test_configuration_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    file = tmp_path / "sparc.toml"
    file.write_text(
        '[localize]\noutput = "maps"\ntext_stream = "words"\nmax_pictures = 5\n'
        '[search]\nrow = 1\nspec = "timm:vit"\n[name]\nspec = "transformers:a/b"\n'
    )
    localize = load_config(LocalizeConfig, "localize", file, {})
    assert (localize.out, localize.source, localize.max_images) == (Path("maps"), "words", 5)
    assert load_config(SearchConfig, "search", file, {}).specs == ("timm:vit",)
    assert load_config(NameConfig, "name", file, {}).specs == ("transformers:a/b",)


def test_a_spec_is_for_the_stream_it_names_or_the_only_one_that_reads_alike() -> None:
    streams = {"vit": "image", "cnn": "image", "words": "text"}

    def of(*texts: str, among=streams):
        return specs_by_stream(texts, among, artefact="the run")

    assert of("vit=timm:a?size=8", "transformers:b") == {
        "vit": "timm:a?size=8",
        "words": "transformers:b",
    }
    # Of a single stream also what reads something else: the encoder's check says what is wrong.
    assert of("timm:a?size=8", among={"words": "text"}) == {"words": "timm:a?size=8"}
    assert of("timm:a", among={"vit": None, "words": "text"}) == {"vit": "timm:a"}
    with pytest.raises(ConfigError, match=r'say with specs={"NAME": "timm:a"} which .*: vit, cnn$'):
        of("timm:a")
    with pytest.raises(ConfigError, match="takes encoders of vit, cnn, words, not of 'dino'"):
        of("dino=timm:a")
    with pytest.raises(ConfigError, match="stream words two encoders: transformers:a and"):
        of("transformers:a", "words=transformers:b")
    with pytest.raises(ConfigError, match="cannot read stream spec 'vit'"):
        of("vit")


def test_python_takes_specs_by_stream_as_a_searcher_does() -> None:
    with pytest.raises(ConfigError, match="name_latents: specs must be a list"):
        name_latents("nowhere", words=["a"], specs=3)
    with pytest.raises(ConfigError, match="specs is given twice"):
        name_latents("nowhere", words=["a"], specs={"words": "timm:a"}, spec="timm:a")


def test_other_features_in_the_report_s_cache_are_noticed(saved_model, call, tmp_path) -> None:
    cache, report, draws = tmp_path / "cache", tmp_path / "report", np.random.default_rng(0)
    dims = {"dino": 24, "clip_image": 16, "clip_text": 16}
    features = {name: draws.normal(size=(40, dim)) for name, dim in dims.items()}
    captions = [f"a {'cat' if row % 2 else 'dog'}" for row in range(40)]
    write_arrays(cache, features, captions=captions)
    command = ("analyze", "run", saved_model, cache, report, "--no-permuted", "--device=cpu")
    assert call(*command).returncode == 0
    write_arrays(cache, {**features, "dino": -features["dino"]}, captions=captions, overwrite=True)
    for question in (
        ("concepts", report),
        ("show", report, "--latent=1"),
        ("bias", report, "--attribute=words:cat"),
        ("search", report, "--row=1", "--in=dino"),
        ("localize", saved_model, "--cache", cache, "--report", report),
    ):
        done = call("analyze", *question)
        assert done.returncode == 2, question
        said = " ".join(done.stderr.split())
        assert "other features of stream dino" in said
        assert f"{report} --overwrite`" in said
    assert call(*command, "--overwrite").returncode == 0
    assert call("analyze", "concepts", report).returncode == 0
