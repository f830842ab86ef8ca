"""Is the AU adapter local and graded? Faces of one AU at six intensities, read by a judge that has seen nothing but renders."""
