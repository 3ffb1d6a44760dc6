"""Options of a run: their names, files of them, and what they are turned into."""
