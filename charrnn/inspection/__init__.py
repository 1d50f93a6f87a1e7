"""Looking inside: activations, gates, gradients."""
