"""Lossless compression by a model: its probabilities, and an arithmetic coder that spends −log2 p bits on each."""
