"""A finished run's frontier, and other plans picked from it."""
