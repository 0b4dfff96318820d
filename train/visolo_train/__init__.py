"""Training and scoring: annotations, drawn data, targets, losses, average precision."""
