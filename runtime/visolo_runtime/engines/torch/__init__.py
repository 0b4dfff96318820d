"""PyTorch: the reference, and PyTorch's formats. Only this folder of the runtime imports it."""
