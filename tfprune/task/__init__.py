"""What a model is for: its loss, its metrics with their direction, the form of its labels."""
