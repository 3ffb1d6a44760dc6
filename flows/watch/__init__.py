"""The parts of `flows.watch_models`: a watched folder and what is published of it."""
