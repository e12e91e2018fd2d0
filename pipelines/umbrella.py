"""`sparc` as a group of the other commands, for shells, which ask what may follow."""

from typing import Any

from typer.main import get_command

from sparc.common.cli.app import new_app
from sparc.common.cli.groups import Commands
from sparc.common.lazy import import_home
from sparc.pipelines.commands import STAGES


class _Stages(Commands):
    """The commands by the words after `sparc`; one is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - of typer
        return list(STAGES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - of typer
        stage = STAGES.get(cmd_name)
        return get_command(import_home(stage.home)) if stage else None


app = new_app("All commands of SPARC.", _Stages)
