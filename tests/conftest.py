"""Settings of the whole suite."""

from hypothesis import settings

# A test is as slow as the machine is busy: speed is for benchmarks.
settings.register_profile("narrowcast", deadline=None)
settings.load_profile("narrowcast")
