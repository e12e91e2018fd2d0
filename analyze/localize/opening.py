"""From a run to a localizer: rebuilds its encoders, and reads the reference images."""

from sparc.analyze.codes.subject import Subject, choose_streams
from sparc.analyze.localize.config import LocalizeConfig
from sparc.analyze.localize.localizer import Localizer
from sparc.analyze.localize.presence import read_reference
from sparc.analyze.localize.rebuild import build, parse_specs, stream_specs
from sparc.common.cache.reader import ActivationCache
from sparc.common.devices import choose_device
from sparc.common.progress import say
from sparc.common.text import printable
from sparc.extract.encoders.tower import LocalizeError


def open_localizer(subject: Subject, config: LocalizeConfig) -> Localizer:
    """Build the encoders that are needed, and print which streams cannot be shown.

    Raises:
        LocalizeError: An encoder cannot be built, or no stream can be shown.
        CacheError: The cache of the reference does not exist, or comes from other encoders.
    """
    specs = stream_specs(subject, parse_specs(config.specs))
    for name in config.streams:
        if name not in specs:
            raise LocalizeError(
                f"{subject.location} has no stream {name!r}; it has {', '.join(specs)}"
            )
    needed = {
        name: spec
        for name, spec in specs.items()
        if spec.modality == "text" or not config.streams or name in config.streams
    }
    device = choose_device(config.device)
    reference = None
    if config.cache:
        cache = ActivationCache(config.cache)
        images = [name for name, spec in needed.items() if spec.modality == "image"]
        shown = tuple(name for name in images if name in cache.stream_names) or tuple(images)
        choose_streams(subject, cache, shown)
        reference = read_reference(cache, shown, config.seed, device)
    localizer = Localizer(
        subject.model, build(subject, needed, config, device), config, device, reference
    )
    for stream, reason in localizer.left_out.items():
        say(f"stream {stream} is left out: {printable(reason)}")
    return localizer
