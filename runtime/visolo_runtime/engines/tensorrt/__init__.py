"""TensorRT and TensorRT-RTX on a GPU, with pycuda."""
