"""A page that runs a model in the browser: its sources, and how the folder is written."""
