"""What the audit looks for: memory of training faces, lost groups, misread groups, duplicates, empty cells."""
