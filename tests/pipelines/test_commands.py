"""`sparc` lists the other commands, quickly, and hands over to them."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sparc as sparc_package
from sparc.pipelines.commands import STAGES, help_text, main


def sparc(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sparc.pipelines.commands", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_help_lists_all_commands_and_imports_nothing():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource, sys\n"
            "from sparc.pipelines.commands import main\n"
            "main(['--help'])\n"
            "usage = resource.getrusage(resource.RUSAGE_SELF)\n"
            "print(usage.ru_utime + usage.ru_stime, [m for m in ('torch', 'typer', 'numpy', "
            "'pyarrow') if m in sys.modules], file=sys.stderr)",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    seconds, imported = done.stderr.split(maxsplit=1)
    assert done.stdout == help_text()
    assert imported.strip() == "[]"
    assert float(seconds) < 0.3
    scripts = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "scripts"
    ]
    assert {f"sparc-{name}": stage.home for name, stage in STAGES.items()} == {
        name: home for name, home in scripts.items() if name != "sparc"
    }
    assert scripts["sparc"] == "sparc.pipelines.commands:main"


def test_a_command_is_handed_over_with_its_arguments_and_its_status():
    done = sparc("analyze", "concepts", "nowhere", "--shared")
    assert done.returncode == 2
    assert done.stderr == (
        "error: nowhere is not a report: there is no such folder; `sparc-analyze run RUN CACHE "
        "REPORT` makes one\n"
    )
    shown = sparc("analyze", "concepts", "--help")
    assert shown.returncode == 0
    assert re.search(r"Usage: sparc analyze concepts", shown.stdout)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("concept", "sparc has no command 'concept'; did you mean `sparc analyze concepts`?"),
        ("demo", "sparc has no command 'demo'; did you mean `sparc pipeline demo`?"),
        ("extrakt", "sparc has no command 'extrakt'; did you mean `sparc extract`?"),
        ("xyz", "sparc has no command 'xyz'; there are extract, train, analyze, pipeline, doctor"),
    ],
)
def test_what_is_no_command_is_told_what_to_type(typed, message, capsys):
    with pytest.raises(SystemExit) as left:
        main([typed])
    assert left.value.code == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize("stage", ["extract", "train", "analyze", "pipeline"])
def test_every_program_says_its_version(stage, capsys):
    from typer.testing import CliRunner

    from sparc.common.lazy import import_home

    line = f"sparc-sae {sparc_package.__version__}\n"
    shown = CliRunner().invoke(import_home(STAGES[stage].home), ["--version"])
    assert (shown.exit_code, shown.stdout) == (0, line)
    main(["--version"])
    assert capsys.readouterr().out == line
    assert sparc_package.__version__ == importlib.metadata.version("sparc-sae")


@pytest.mark.parametrize("columns", [60, 100])
def test_every_help_fits_its_terminal(columns):
    from typer.testing import CliRunner

    from sparc.common.lazy import import_home

    runner = CliRunner(env={"COLUMNS": str(columns)})
    for stage in STAGES.values():
        app = import_home(stage.home)
        names = (
            [
                [info.name or info.callback.__name__.replace("_", "-")]
                for info in app.registered_commands
            ]
            if app.registered_callback
            else []
        )
        for words in ([], *names):
            shown = runner.invoke(app, [*words, "-h"]).stdout
            assert max(map(len, shown.splitlines())) <= columns
            assert "..." not in shown.partition("Commands:")[2]
