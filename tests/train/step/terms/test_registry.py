"""Terms of the loss: those that are built in, and one that is added as the registry says."""

import math

import pytest
import torch

from sparc.common.errors import ConfigError
from sparc.common.files.folder import Folder
from sparc.common.lazy import import_home
from sparc.train import job
from sparc.train.config import TrainConfig
from sparc.train.reference import Reference
from sparc.train.run.log import read_lines
from sparc.train.run.run_summary import describe_folder
from sparc.train.step.learner import Learner
from sparc.train.step.noise import Inputs
from sparc.train.step.row_terms import GlobalCodes
from sparc.train.step.selection.select import select_candidates
from sparc.train.step.terms import registry
from sparc.train.step.terms.autograd import DenseBatch, differentiate
from sparc.train.step.terms.registry import TERMS, TermEntry, weighted_terms
from sparc.train.step.terms.term import (
    Contribution,
    LossTerm,
    PairTerm,
    SparseTerm,
    build_terms,
)


class Pull(LossTerm):
    """Pulls the streams' codes of a row towards their mean."""

    def dense(self, forward):
        codes = torch.stack(list(forward.codes.values()), dim=1)
        return (codes - codes.mean(1, keepdim=True)).square().sum(2).mean()


class PullByHand(Pull, SparseTerm):
    """The same where the streams share their latents, which is then simple to differentiate."""

    def sparse(self, rows):
        values = rows.selected.values
        gap = values[:, rows.stream] - values.mean(1)
        return Contribution(gap.square().sum(1), 2 * rows.weight * gap)


@pytest.fixture
def register(monkeypatch):
    def register(name, term):
        entry = TermEntry("of a test", f"{__name__}:{term.__name__}")
        monkeypatch.setitem(registry.TERMS, name, entry)

    return register


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


def kill(learner, count):
    state = learner.state()
    for name in learner.model.config.names:
        state[f"since_active.{name}"][:count] = 10**9
    learner.load_state(state)


@pytest.mark.parametrize("selection", ["global", "local"])
@pytest.mark.parametrize("variances", [None, (0.3, 0.7, 0.1)])
def test_derivatives_by_hand_are_those_of_the_formula(
    build_model, draw_batch, selection, variances
):
    """Of all terms together, so that a new one with derivatives by hand is held to its `dense`."""
    model = build_model(selection=selection)
    weights = [f"{name}=0.5" for name in weighted_terms()]
    settings = TrainConfig(
        recipe="joint",
        aux_weight=0.5,
        auxk=4,
        cross_weight=0.3,
        terms=tuple(weights),
        error="variance" if variances else "norm",
    )
    learner = Learner(model, settings, variances=variances or ())
    batch = draw_batch(model, 9)
    kill(learner, 9)
    with torch.no_grad():
        selected = select_candidates(
            model, Inputs(batch), precision="float32", kernels=learner.kernels
        )
    dead = {name: torch.arange(40) < 9 for name in model.config.names}
    codes = GlobalCodes(selected.indices, selected.values)
    dense = DenseBatch(Inputs(batch), codes, dead, variances)
    by_autograd = differentiate(model, build_terms(settings), dense)
    assert by_autograd.values.keys() == set(TERMS)
    actual = learner.gradients(batch)
    for name, gradient in by_autograd.gradients.items():
        close(actual[name], gradient)
    losses = learner.losses(batch)
    for name in weighted_terms():
        close(losses.terms[name].mean(), by_autograd.values[name])


@pytest.mark.parametrize("selection", ["global", "local"])
@pytest.mark.parametrize("recipe", ["joint", "published"])
def test_gradient_of_a_new_term(build_model, draw_batch, register, selection, recipe):
    register("pull", Pull)
    model = build_model(selection=selection)
    settings = TrainConfig(recipe=recipe, terms=("pull=0.7",), auxk=3)
    learner, batch = Learner(model, settings), draw_batch(model, 9)
    reference = Reference(model, auxk=3, aux_constant=recipe == "published")
    forward = reference.forward(batch)
    pull = Pull(settings, "pull").dense(forward)
    loss = reference.loss(forward) + 0.7 * pull
    losses = learner.losses(batch)
    close(losses.total, loss.detach())
    close(losses.terms["pull"], pull.detach())
    loss.backward()
    for name, gradient in learner.gradients(batch).items():
        close(gradient, model.get_parameter(name).grad)


def test_derivatives_by_hand_of_a_new_term(build_model, draw_batch, register):
    """With AuxK beside it, which has its own part of the same step."""
    register("pull", PullByHand)
    model = build_model()
    settings = TrainConfig(recipe="joint", terms=("pull=0.7",), auxk=3)
    learner, batch = Learner(model, settings), draw_batch(model, 9)
    kill(learner, 9)
    assert learner.by_autograd == ()
    reference = Reference(model, auxk=3)
    dead = {name: torch.arange(40) < 9 for name in model.config.names}
    forward = reference.forward(batch, dead)
    loss = reference.loss(forward) + 0.7 * Pull(settings, "pull").dense(forward)
    losses = learner.losses(batch)
    close(losses.total, loss.detach())
    close(losses.terms["pull"].mean(), Pull(settings, "pull").dense(forward).detach())
    loss.backward()
    for name, gradient in learner.gradients(batch).items():
        close(gradient, model.get_parameter(name).grad)


class Next(PairTerm):
    """Every stream reconstructs the next one, which moves decoders too."""

    def pairs(self, streams):
        return torch.eye(streams).roll(1, 0).bool()


class NextByAutograd(LossTerm):
    def dense(self, forward):
        return Next(self.settings, self.name).dense(forward)


@pytest.mark.parametrize("recipe", ["joint", "published"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("pair", [(Pull, PullByHand), (NextByAutograd, Next)])
def test_training_by_autograd_is_that_by_hand(
    build_model, draw_batch, register, recipe, clip, pair, monkeypatch
):
    monkeypatch.setattr("sparc.train.step.recipes.published.DEAD_AFTER_STEPS", 2)
    register("new", pair[0])
    settings = TrainConfig(recipe=recipe, terms=("new=0.7",), dead_after=15, auxk=3, clip=clip)
    models = []
    for term in pair:
        register("new", term)
        models.append(build_model())
        learner = Learner(models[-1], settings)
        for seed in range(6):
            learner.step(draw_batch(models[-1], 10, seed=seed), 1e-2)
        assert sum(learner.dead_counts().values()) > 0
    by_autograd, by_hand = (model.state_dict() for model in models)
    torch.testing.assert_close(by_autograd, by_hand, rtol=1e-9, atol=1e-9)


def test_two_processes_see_the_whole_batch(build_model, draw_batch, in_two_threads, register):
    register("pull", Pull)
    models = [build_model() for _ in range(3)]
    settings = TrainConfig(recipe="joint", terms=("pull=0.7",), dead_after=15, auxk=3, clip=0.5)
    whole = Learner(models[0], settings)
    batches = [draw_batch(models[0], 10, seed=seed) for seed in range(4)]
    expected = [whole.step(batch, 1e-2) for batch in batches]

    def steps(rank, gather):
        learner = Learner(models[1 + rank], settings, gather=gather)
        halves = ({n: x[5 * rank :][:5] for n, x in batch.items()} for batch in batches)
        sums = [learner.step(half, 1e-2) for half in halves]
        return sums, learner.measure(batches[0]) if rank == 0 else None  # alone, as validation is

    (first, measured), (second, _) = in_two_threads(steps)
    for total, *halves in zip(expected, first, second, strict=True):
        close((halves[0] + halves[1]).terms["pull"], total.terms["pull"])
    close(measured.terms["pull"], whole.measure(batches[0]).terms["pull"])
    for name, tensor in models[0].state_dict().items():
        torch.testing.assert_close(models[1].state_dict()[name], tensor, rtol=1e-9, atol=1e-9)
        assert torch.equal(models[1].state_dict()[name], models[2].state_dict()[name])


def test_a_run_trains_with_a_new_term(tmp_path, small_cache, small_settings, register, capsys):
    register("pull", Pull)
    last = {}
    for weight in ("0", "1"):
        run = tmp_path / weight
        job.run(str(small_cache), run, small_settings(terms=(f"pull={weight}",)))
        last[weight] = list(read_lines(Folder(run)))[-1]
    assert "pull" not in last["0"]
    assert "pull: no derivatives by hand" in capsys.readouterr().err
    lines = list(read_lines(Folder(tmp_path / "1")))
    assert all(math.isfinite(line["pull"]) for line in lines)
    assert lines[-1]["pull"] < 0.5 * lines[0]["pull"]
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert f"loss {lines[-1]['loss']:.4f}, pull {lines[-1]['pull']:.4f}" in describe_folder(run)


def test_a_run_with_a_new_term_resumes_as_if_undisturbed(
    tmp_path, small_cache, small_settings, register, monkeypatch
):
    register("pull", Pull)
    settings = small_settings(terms=("pull=0.1",), steps=20)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    job.run(str(small_cache), whole, settings)
    learn, steps = Learner.step, []

    def fail(self, *arguments, **options):
        steps.append(1)
        if len(steps) == 14:
            raise OSError("the disk is full")
        return learn(self, *arguments, **options)

    monkeypatch.setattr(Learner, "step", fail)
    with pytest.raises(OSError, match="the disk is full"):
        job.run(str(small_cache), torn, settings)
    monkeypatch.setattr(Learner, "step", learn)
    job.run(str(small_cache), torn, settings)
    for file in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (torn / file).read_bytes() == (whole / file).read_bytes()


def test_no_term_is_called_like_another_figure(build_model):
    sums = Learner(build_model(), TrainConfig(recipe="joint", rows="any")).no_sums
    figures = {"step", "epoch", "split", "explained_variance", "l0", "dead", "lr", "mixing"}
    others = figures | {"crc32c"} | (sums.named().keys() - sums.terms.keys())
    assert not others & set(TERMS)


def test_the_help_lists_them(call):
    shown = " ".join(call("train", "run", "--help").stdout.split())
    assert f"distill: {TERMS['distill'].summary}" in shown


def test_only_registered_terms_have_weights(tmp_path, small_cache, call, register):
    register("pull", Pull)
    done = call("train", "run", small_cache, tmp_path / "run", "--term", "pul=1")
    assert done.returncode
    known = ", ".join(weighted_terms())
    assert known.endswith(", pull")
    assert f"--term must name one of {known}, not 'pul'" in done.stderr
    grid = tmp_path / "grid.toml"
    grid.write_text("term.pul = [0, 1]")
    done = call("train", "run", small_cache, tmp_path / "run", "--sweep", grid)
    assert done.returncode
    assert "cannot vary 'term.pul', only " in done.stderr
    assert done.stderr.strip().endswith(", term.pull")
    assert ", term.distill, " in done.stderr


@pytest.mark.parametrize(
    ("term", "option"), [("aux=1", "--aux-weight"), ("cross=0.5", "--cross-weight")]
)
def test_terms_with_an_option_of_their_own(term, option):
    with pytest.raises(ConfigError, match=f"one of .*, not .* whose weight is {option}"):
        TrainConfig(recipe="joint", terms=(term,))


def test_entries_say_which_terms_take_a_weight():
    for name, entry in TERMS.items():
        term = import_home(entry.home)
        assert (term.weight is LossTerm.weight) == (name in weighted_terms()), name


@pytest.mark.parametrize(
    "term", ["pull", "pull=", "=1", "pull=x", "pull=-1", "pull=inf", "pull=nan"]
)
def test_weights_that_are_none(term):
    with pytest.raises(ConfigError, match="NAME=WEIGHT"):
        TrainConfig(recipe="joint", terms=(term,))


def test_two_weights_of_one_term():
    with pytest.raises(ConfigError, match="'distill' two weights"):
        TrainConfig(recipe="joint", terms=("distill=1", "distill=2"))
