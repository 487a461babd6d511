"""Training as a recipe describes it: interrupted and resumed, on one worker or several."""
