"""How large thumbnails are. Light: the command line reads it for `--help`."""

SIDE = 96
"""Longest side in pixels, where nobody says another."""

SMALLEST_SIDE = 16
LARGEST_SIDE = 512


def side_fault(longest_side: int) -> str | None:
    """Why thumbnails cannot have a longest side; None where they can, or where 0 means none."""
    if longest_side == 0 or SMALLEST_SIDE <= longest_side <= LARGEST_SIDE:
        return None
    allowed = f"0, or from {SMALLEST_SIDE} to {LARGEST_SIDE} pixels"
    return f"thumbnails must be {allowed}, not {longest_side}"
