"""Gates on units, and removing the units that training has closed."""
