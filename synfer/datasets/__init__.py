"""Readers of published face data sets: what their files say, by name, without a look at a pixel."""
