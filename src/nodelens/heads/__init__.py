"""Studies of a network's attention heads: which labels each knows, alone and along depth and training."""
