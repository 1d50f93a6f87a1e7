"""Text out: engines, filters, choosers, beam search, and the generator that joins them."""
