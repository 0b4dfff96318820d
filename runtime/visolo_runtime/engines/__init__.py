"""What an engine is, how a backend is chosen, and a folder for each library."""
