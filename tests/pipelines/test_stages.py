import json

import pytest

from sparc.common.errors import LockedError, SparcError
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.pipelines.stages import RECORD_FILE, Stage, run_stages

# Asking for help is a command that ends well at once.
HELP = dict.fromkeys(("extract", "train", "analyze"), ("run", "--help"))


def stage(program, product, arguments=None):
    return Stage(f"step {program}", program, arguments or HELP[program], product, False)


@pytest.fixture
def stages(tmp_path):
    product = tmp_path / "product"
    product.mkdir()
    return [stage("extract", product), stage("train", product)]


def passed_over(capfd) -> list[bool]:
    """For each stage that was announced, whether it was passed over."""
    lines = capfd.readouterr().err.splitlines()
    return ["done before" in line for line in lines if line.startswith("[")]


def test_commands_are_shown_as_they_are_typed(tmp_path, stages, capfd):
    spec = "timm:m@a b?size=1&pool=cls"
    assert stage("extract", tmp_path, ("run", spec)).command == f"sparc-extract run '{spec}'"
    run_stages(tmp_path, stages)
    assert "[1/2] step extract\n    $ sparc-extract run --help" in capfd.readouterr().err


def test_what_has_finished_is_passed_over(tmp_path, stages, capfd):
    run_stages(tmp_path, stages)
    assert passed_over(capfd) == [False, False]
    run_stages(tmp_path, stages)
    assert passed_over(capfd) == [True, True]
    run_stages(tmp_path, [*stages, stage("analyze", tmp_path / "product")])
    assert passed_over(capfd) == [True, True, False]


def test_a_changed_command_runs_again_and_so_does_all_after_it(tmp_path, stages, capfd):
    run_stages(tmp_path, stages)
    capfd.readouterr()
    changed = stage("extract", tmp_path / "product", ("inspect", "--help"))
    run_stages(tmp_path, [changed, stages[1]])
    assert passed_over(capfd) == [False, False]


def test_a_lost_product_is_made_again(tmp_path, stages, capfd):
    run_stages(tmp_path, stages)
    capfd.readouterr()
    (tmp_path / "product").rmdir()
    run_stages(tmp_path, stages)
    assert passed_over(capfd) == [False, False]


def test_a_stage_that_did_not_end_runs_again_and_so_does_all_after_it(tmp_path, stages, capfd):
    run_stages(tmp_path, stages)
    (tmp_path / "product").rmdir()
    failing = stage("extract", tmp_path / "product", ("inspect", str(tmp_path / "nowhere")))
    with pytest.raises(SparcError):
        run_stages(tmp_path, [failing, stages[1]])
    (tmp_path / "product").mkdir()  # as an interrupted stage leaves it
    capfd.readouterr()
    run_stages(tmp_path, stages)
    assert passed_over(capfd) == [False, False]


@pytest.mark.parametrize("content", ["", "[]", '{"finished": 3}'])
def test_a_damaged_record_runs_everything(tmp_path, stages, capfd, content):
    (tmp_path / RECORD_FILE).write_text(content)
    run_stages(tmp_path, stages)
    assert passed_over(capfd) == [False, False]


def test_a_record_of_something_else_is_left_as_it_is(tmp_path, stages):
    (tmp_path / RECORD_FILE).write_text('{"steps": ["years", "of work"]}')
    with pytest.raises(SparcError, match="of something else"):
        run_stages(tmp_path, stages)
    assert (tmp_path / RECORD_FILE).read_text() == '{"steps": ["years", "of work"]}'


def test_a_failure_stops_with_one_line_and_keeps_what_is_done(tmp_path, stages, capfd):
    failing = stage("train", tmp_path, ("inspect", str(tmp_path / "nowhere")))
    with pytest.raises(SparcError, match=r"stage \[2/3\] step train failed with status 2") as error:
        run_stages(tmp_path, [stages[0], failing, stages[1]])
    assert "\n" not in str(error.value)
    shown = capfd.readouterr().err
    assert "error: " in shown
    assert "[3/3]" not in shown
    assert json.loads((tmp_path / RECORD_FILE).read_text()) == {"finished": [stages[0].command]}


def test_two_pipelines_do_not_share_a_folder(tmp_path, stages):
    with exclusive(Folder(tmp_path)), pytest.raises(LockedError):
        run_stages(tmp_path, stages)
