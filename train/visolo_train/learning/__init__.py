"""Clips, augmentation, targets, losses, schedule and recipes (PyTorch)."""
