"""Semantic guidance study: what it costs, what it wins, and what it breaks."""
