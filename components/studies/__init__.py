"""Studies: does synthetic data help, and by how much; cells at equal budgets, repeated with several seeds, with intervals."""
