"""Training and scoring: annotations, drawn data, targets, losses, loop, average
precision."""
