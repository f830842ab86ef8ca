"""Measuring after the fact: two runs against each other from their stored predictions, a classifier on another dataset."""
