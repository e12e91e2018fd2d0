"""The command `sparc-train import`: from another program's dictionary to a saved model."""

from sparc.common.cache.reader import ActivationCache
from sparc.common.config import to_mapping
from sparc.common.errors import CacheError
from sparc.common.files.artefacts import refuse_inside_artefact
from sparc.common.files.folder import Folder
from sparc.common.files.lock import exclusive
from sparc.common.files.paths import path_here
from sparc.common.progress import say
from sparc.common.text import amount
from sparc.common.versions import software_versions
from sparc.train.config import ModelConfig
from sparc.train.derive.derive import Location
from sparc.train.derive.history import History
from sparc.train.derive.saved_model import (
    recognize_saved_model,
    refuse_other_model,
    write_saved_model,
)
from sparc.train.dictionaries.as_model import model_of
from sparc.train.dictionaries.formats.format import format_of, recognized_format
from sparc.train.dictionaries.formats.given import Given
from sparc.train.dictionaries.formats.registry import AUTO
from sparc.train.importing.config import ImportConfig
from sparc.train.importing.fit import fit_lines, fit_on
from sparc.train.importing.record import ImportRecord
from sparc.train.loading import load
from sparc.train.model.files import CONFIG_FILE, read_history
from sparc.train.model.network import Sparc
from sparc.train.model.tensors import digest
from sparc.train.run.run_folder import absolute_location


def import_dictionary(file: Location, out: Location, config: ImportConfig) -> Sparc:
    """Make a saved model of one stream of a dictionary that another program trained.

    Its codes are those that the program gives for the same features. The same call after an
    interruption finishes what it began.

    Args:
        file: The file with its weights, or the folder of that.
        out: The folder of the saved model; it must not hold anything.
        config: The stream's name, and what the files do not say.

    Returns:
        The model, on the CPU, in evaluation mode and frozen.

    Raises:
        DictionaryError: It is no dictionary of a known format, or one that no model of SPARC is.
        CacheError: The cache lacks the stream, or its features have another width.
        RunError: `out` holds something else.
    """
    given, target = Given(path_here(file, "the dictionary")), Folder(out)
    refuse_inside_artefact(target)
    form = recognized_format(given) if config.format == AUTO else config.format
    dictionary = format_of(form).read(given, config.k)
    model = model_of(dictionary, config.stream, k=config.k, k_max=config.k_max)
    cache = _cache(config, model.config)
    record = ImportRecord(
        source=absolute_location(str(given)),
        source_sha256=digest(model.state_dict(), about=to_mapping(model.config)),
        format=form,
        streams=() if cache is None else (cache.streams[config.stream],),
        settings=config,
        versions=software_versions(),
    )
    with exclusive(target, recognize_saved_model):
        if target.exists(CONFIG_FILE):
            refuse_other_model(
                target, read_history(target).imported, record, ("source_sha256", "streams")
            )
            say(f"{target} is finished: {given}, imported")
        else:
            if cache is not None:
                for line in fit_lines(fit_on(model, cache), model, cache):
                    say(line)
            write_saved_model(target, model, History(imported=(record,)))
            say(f"{target}: {_described(model.config)}, from {given} ({form})")
    return load(target.location)


def _cache(config: ImportConfig, model: ModelConfig) -> ActivationCache | None:
    """The cache to check on, if one is named, with a stream that the dictionary may be of."""
    if not config.cache:
        return None
    cache = ActivationCache(config.cache)
    stream, dim = cache.stream(config.stream), model.streams[0].dim
    if stream.dim != dim:
        raise CacheError(
            f"{cache.folder}: features of stream {stream.name} have {stream.dim} values, those of "
            f"the dictionary {dim}: it was trained on another encoder or layer"
        )
    cache.require_complete([stream.name])
    return cache


def _described(model: ModelConfig) -> str:
    most = f", at most {model.width}" if model.k_max is not None else ""
    scaled = ", features scaled to unit norm" if model.normalize == "unit" else ""
    return (
        f"stream {model.names[0]}, {amount(model.latents, 'latent')} of {model.streams[0].dim:,} "
        f"values, k {model.k}{most}{scaled}"
    )
