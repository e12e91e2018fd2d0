"""The names of a report's headline figures, so that a misspelt one is an error, not an empty cell.

A name is a metric, with the end of its interval if that is meant, and what the figure is of: a mode
and a control, and for some a depth or a stream. `REPORT.md` lists them.
"""

_MODES = ("joint", "independent", "raw")
_CONTROLS = ("none", "untrained", "permuted", "permuted_before", "permuted_after")

_AGREEMENT = ("agreement", "agreement_mispaired", "agreement_excess")
_ALIVE = ("agreement_alive", "agreement_alive_mispaired", "agreement_alive_excess")
_ERRORS = tuple(f"{m}_{of}" for of in ("self", "cross") for m in ("nmse", "explained_variance"))
_RANKS = tuple(
    f"{space}_{measure}"
    for space in ("codes", "cross_reconstruction", "raw")
    for measure in ("r_at_1", "r_at_10", "median_rank")
)

_OF_MODE_AND_CONTROL = {
    *_AGREEMENT, *_ALIVE, *_ERRORS, *_RANKS,
    "raw_map", "codes_map", "reconstruction_self_map", "reconstruction_cross_map",
    "alive_everywhere", "alive_somewhere", "alive_nowhere",
    "active_per_row", "probe_log_loss", "monosemanticity_own",
    "monosemanticity_cross", "purity",
}  # fmt: skip
_OF_CONTROL = {"selection", "left_out_kept"}
_OF_REPORT = {"alive_images", "alive_unseen_share"}
_POINTING = "localization_"  # Its measures, maps and choices of images are its own.


def check(name: str) -> None:
    """See that a name is one that a figure can have.

    Raises:
        ValueError: It is misspelt.
    """
    metric, *rest = name.split("/")
    metric = metric.removesuffix("_low").removesuffix("_high")
    if metric in _OF_MODE_AND_CONTROL:
        right = len(rest) > 1 and rest[0] in _MODES and rest[1] in _CONTROLS
    elif metric in _OF_CONTROL:
        right = len(rest) > 1 and rest[0] in _CONTROLS
    elif metric in _OF_REPORT:
        right = not rest
    else:
        right = metric.startswith(_POINTING)
    if not right:
        raise ValueError(f"no figure of a report is called {name!r}")
