"""The pipeline: the jobs, their stages, and what calls what."""
