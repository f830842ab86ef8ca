"""Annotation: calibrated members, their pool, and the decision what to do with each generated image's label."""
