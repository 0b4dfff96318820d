"""PyTorch: the reference, and its own formats. The only folder of the runtime that imports it."""
