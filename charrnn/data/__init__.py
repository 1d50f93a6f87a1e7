"""Text in: vocabularies, sources, prepared corpora and the streams that training reads."""
