"""Plans that a user writes."""
