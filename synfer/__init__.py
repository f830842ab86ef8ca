"""SynFER: synthetic facial-expression datasets that people can trust. The library knows no pipeline; start at `synfer.vocabulary`."""
