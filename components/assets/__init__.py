"""How the embedded weights are made: renders, FER models, autoencoder, generator, each with a card. `synfer assets` runs all of it."""
