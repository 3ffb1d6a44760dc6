"""Everything that is made of a run once its search is over: its manifest, tables and output folder."""
