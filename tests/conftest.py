"""Settings of the whole suite."""

import os

from hypothesis import settings

# Before anything imports Prefect: the command line's tests look at all it prints.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")

# A test is as slow as the machine is busy: speed is for benchmarks.
settings.register_profile("narrowcast", deadline=None)
settings.load_profile("narrowcast")
