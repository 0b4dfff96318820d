"""The runtime: opens a bundle as engines and runs them on video. It imports PyTorch only when that
is the chosen backend."""
