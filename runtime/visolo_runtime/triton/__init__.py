"""Serving a bundle with NVIDIA Triton: what a model repository holds, and a session a sequence."""
