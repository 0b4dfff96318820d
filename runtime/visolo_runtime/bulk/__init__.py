"""Many recordings run on one machine or on a cluster, each of them once."""
