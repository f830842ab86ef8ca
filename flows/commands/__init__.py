"""One module a command of `synfer`; heavy packages are imported inside the functions, so that `--help` answers at once."""
