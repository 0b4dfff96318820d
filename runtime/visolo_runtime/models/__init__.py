"""Models: those in the package, those on the hub, and how either is named."""

HUB = "hf://"
"""What the address of a model on the hub begins with."""
