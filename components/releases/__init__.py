"""What a release is made of and how it is checked: card, counts, files, `synfer verify`."""
