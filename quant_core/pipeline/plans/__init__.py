"""Plans that a run tries: a study of them, what evaluates them, and what lets search strategies choose them."""
