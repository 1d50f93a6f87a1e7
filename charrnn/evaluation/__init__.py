"""Measuring: the surprisal of a text, and figures folded over it."""
