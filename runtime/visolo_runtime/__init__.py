"""The runtime: a bundle becomes engines, engines and a video become instances. Without PyTorch,
unless that is the requested backend."""
