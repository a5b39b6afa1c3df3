"""Models of timm and torchvision: of each of their modules the member with the fewest parameters."""

from __future__ import annotations

from benchmarks.zoo.entry import Entry
from benchmarks.zoo.timm_names import LEFT_OUT, SMALLEST

#: Pictures are as small as the model allows: the first of these that it runs on.
SIDES = (64, 96, 128, 224, 256, 384)
#: Of torchvision's 17 modules of classification.
TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t",
    "vgg11", "vit_b_16",
)  # fmt: skip


def _pictures(group: str, name: str, left_out: str = "") -> Entry:
    shapes = tuple((3, side, side) for side in SIDES)
    return Entry(group, name, model=f"{group}/{name}", shapes=shapes, left_out=left_out)


def torchvision_models() -> list[Entry]:
    """Returns torchvision's."""
    return [_pictures("torchvision", name) for name in TORCHVISION]


def timm_models() -> list[Entry]:
    """Returns timm's; what it has more than one of is in `timm_names`."""
    return [_pictures("timm", name, LEFT_OUT.get(name, "")) for name in SMALLEST.values()]
