"""ONNX Runtime: on the CPU, or on a GPU through an execution provider."""
