"""What a search may change of a plan, and the probes that say what each change loses."""
