"""Latent diffusion of faces: backbone, AU adapter, training, sampling, semantic guidance, features."""
