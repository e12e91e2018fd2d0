"""What every stage shares: the cache, stream specs, configuration, errors, progress.

This package knows no stage: it imports neither `sparc.extract`, `sparc.train` nor `sparc.analyze`.
"""
