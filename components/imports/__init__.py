"""Bringing a real data set in: `synfer import`."""
