"""The command `sparc-train export`: from a run or model to dictionaries of another program."""

import os
from pathlib import Path

from sparc.common.errors import RunError
from sparc.common.files.artefacts import foreign_entry, refuse_inside_artefact
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.paths import path_here
from sparc.common.progress import say
from sparc.common.text import listed
from sparc.common.versions import software_versions
from sparc.train.derive.derive import Location
from sparc.train.derive.source import open_source
from sparc.train.dictionaries.formats.format import About, WritableFormat, writable_format_of
from sparc.train.dictionaries.of_model import dictionary_of
from sparc.train.export.card import export_card
from sparc.train.export.config import ExportConfig
from sparc.train.model.tensors import is_written_here
from sparc.train.run.run_folder import refuse_other_content

CARD_FILE = "README.md"
"""Is written last: an export with it is whole."""


def export_run(run: Location, out: Location, config: ExportConfig | None = None) -> list[Path]:
    """Write streams of a model as dictionaries that another program loads, a folder each.

    Their codes are the model's independent ones. The same call after an interruption finishes what
    it began.

    Args:
        run: A finished run's folder, a saved model's folder or URL, or a hub repository.
        out: The folder in which they get folders of their names; it must not hold anything.
        config: Which streams, and the format.

    Returns:
        The folders, in the model's order of streams.

    Raises:
        RunError: There is no such model, no dictionary of the format can do what it does, or `out`
            holds something else.
        SparcError: The model has no such stream.
    """
    config = config or ExportConfig()
    target = Folder(path_here(out, "the folder of exported dictionaries"))
    source, form = open_source(os.fspath(run)), writable_format_of(config.to)
    refuse_inside_artefact(target)
    for name in config.streams:
        source.model.check_stream(name)
    names = [n for n in source.model.config.names if not config.streams or n in config.streams]
    dictionaries = {name: dictionary_of(source.model, name) for name in names}
    known = {stream.name: stream for stream in source.streams()}
    digest = source.digest()
    with exclusive(target, lambda folder: _recognize(folder, names, form, digest)):
        if target.exists(CARD_FILE):
            say(f"{target} is finished: {listed(names)} of {source.location}, exported")
            return [target.inside(name) for name in names]
        for name, dictionary in dictionaries.items():
            about = About(
                name=name,
                stream=known.get(name),
                source_sha256=digest,
                selection=source.model.config.selection,
                version=software_versions()["sparc"],
            )
            folder = target.below(name)
            folder.create()
            form.write(dictionary, folder, about)
        differences = dict.fromkeys(s for d in dictionaries.values() for s in form.differences(d))
        remarks = dict.fromkeys(s for d in dictionaries.values() for s in form.remarks(d))
        card = export_card(source.model.config, names, known, form, [*differences, *remarks])
        target.write(CARD_FILE, card.encode())
    for sentence in differences:
        say(f"note: {sentence}")
    say(
        f"{target}: {listed(names)} of {source.location} exported, a folder each; "
        f"{target}/{CARD_FILE} says how to load them"
    )
    return [target.inside(name) for name in names]


def _recognize(target: Folder, names: list[str], form: WritableFormat, digest: str) -> None:
    """Refuse a folder with anything but this export, or what an interruption left of it."""
    refuse_other_content(target, "folder of these streams", (*names, CARD_FILE))
    for name in names:
        folder = target.below(name)
        if not folder.exists():
            if target.exists(CARD_FILE):
                raise RunError(f"{target} holds another export: choose another folder")
            continue
        whole = folder.exists(form.files[-1])
        if other := foreign_entry(folder, form.files):
            raise RunError(
                f"{folder} holds {other} besides what is exported: choose another folder"
            )
        if whole and form.written_from(folder) != digest:
            raise RunError(
                f"{folder} holds a dictionary of another model, which stays: choose another folder"
            )
        for file in form.files[:-1]:
            if not whole and folder.exists(file) and not is_written_here(folder, file):
                raise RunError(f"{folder} holds a {file} that SPARC did not write: choose another")
