"""Descriptions of real faces that came without them: captions and action units."""
