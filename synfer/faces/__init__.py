"""The built-in corpus: faces drawn from action units, with everything about them known."""
