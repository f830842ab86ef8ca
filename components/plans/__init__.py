"""Plans: a file that asks for so many faces of each kind, what releases hold of them already, and the rows of those that are missing."""
