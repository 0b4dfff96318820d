"""Models: those in the package, those on the hub, and how either is named."""
