"""Models opened, and the sessions of their video streams."""
