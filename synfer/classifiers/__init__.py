"""FER classifiers and AU regressors: any timm backbone, cut to fit small images."""
