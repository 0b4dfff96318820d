"""Training. So far the geometry of its targets; the network's clip forward is in the core."""
