"""The shipped recipes, installed as `tfprune.recipes`."""
