"""Checking the labels of somebody's data set: `synfer annotate`."""
