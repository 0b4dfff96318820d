"""Makes bundles of trained weights, and proves that they compute what the weights do."""
