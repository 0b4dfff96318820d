"""Opening a model, and the sessions that run it on video streams."""
