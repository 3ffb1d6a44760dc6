"""What a run gives out."""
