"""What an engine is, which backend is taken, and a folder for each library."""
