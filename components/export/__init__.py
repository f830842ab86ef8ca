"""Writing a release in the forms other tools read: `synfer export`."""
