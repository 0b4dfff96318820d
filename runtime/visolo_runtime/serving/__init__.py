"""A server that tracks several streams, and shows them in browsers."""
