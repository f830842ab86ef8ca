"""Lets `import torchvision` pass beside a CPU build of torch; import this before timm, diffusers, torchmetrics, transformers' models.

torchvision's wheel on the package index is built for CUDA. Beside a CPU torch its operators cannot load and the import dies with "operator
torchvision::nms does not exist", taking every package above with it. Declaring the two operators first makes the import pass; nothing in
SynFER calls them. Where the real operators load, nothing is touched.
"""

import importlib.util
from pathlib import Path

import torch


def _real_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # no torchvision at all: its own ImportError is the clearer message
    libraries = list(Path(spec.origin).parent.glob("_C*.so"))
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        return False
    return bool(libraries)


if not _real_operators_load():
    # The Library object must outlive the import, or the declarations vanish with it.
    _DECLARED = torch.library.Library("torchvision", "FRAGMENT")
    _DECLARED.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
