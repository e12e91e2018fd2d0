"""Where the time of a long command goes: measured by thread, added up by worker, shown."""
