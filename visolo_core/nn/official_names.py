"""Official parameter names and ours.

The rest of the toolkit uses only our names. An official checkpoint is ``{"model": {...}, ...}``;
its parameters start with ``model.``, and ``tracking_module.*`` repeats the tracking branch.
"""

from __future__ import annotations

import re

PREFIX = "model."
ALIAS_PREFIX = "tracking_module."
CLASSIFIER = "category_branch.classifier"

_MODULES = {
    "Category_branch_pre.cat_pre_conv1": "category_branch.entry",
    "Category_branch_pre.conv_layers.cat_pre_conv2": "category_branch.before_memory.0",
    "Category_branch_pre.conv_layers.cat_pre_conv3": "category_branch.before_memory.1",
    "Category_branch_pre.cat_pre_conv4": "category_branch.project",
    "Category_branch_post.conv_layers.cat_post_conv1": "category_branch.after_memory.0",
    "Category_branch_post.conv_layers.cat_post_conv2": "category_branch.after_memory.1",
    "Category_branch_post.conv_layers.cat_post_conv3": "category_branch.after_memory.2",
    "Category_branch_post.pred": "category_branch.classifier",
    "Kernel_branch.conv_layers.kernel_conv1": "kernel_branch.before_memory.0",
    "Kernel_branch.conv_layers.kernel_conv2": "kernel_branch.before_memory.1",
    "Kernel_branch.conv_layers.kernel_conv3": "kernel_branch.before_memory.2",
    "Kernel_branch.conv_layers_post.kernel_conv4": "kernel_branch.after_memory.0",
    "Kernel_branch.conv_layers_post.kernel_conv5": "kernel_branch.after_memory.1",
    "Kernel_branch.pred": "kernel_branch.predict",
    "Tracking_branch.conv_layers_share.track_S_conv1": "tracking_branch.shared.0",
    "Tracking_branch.conv_layers_share.track_S_conv2": "tracking_branch.shared.1",
    "Tracking_branch.track_Q_conv1": "tracking_branch.query.0",
    "Tracking_branch.track_Q_conv2": "tracking_branch.query.1",
    "Tracking_branch.track_R_conv1": "tracking_branch.key.0",
    "Tracking_branch.track_R_conv2": "tracking_branch.key.1",
    "Memory_module.conv1": "memory.value",
    "Mask_branch.convR4": "mask_branch.entry",
    "Mask_branch.ResR4": "mask_branch.residual4",
    "Mask_branch.RefR3.convSCF": "mask_branch.refine3.skip",
    "Mask_branch.RefR3.ResSCF": "mask_branch.refine3.skip_residual",
    "Mask_branch.RefR3.ResF": "mask_branch.refine3.residual",
    "Mask_branch.RefR2.convSCF": "mask_branch.refine2.skip",
    "Mask_branch.RefR2.ResSCF": "mask_branch.refine2.skip_residual",
    "Mask_branch.RefR2.ResF": "mask_branch.refine2.residual",
    "Mask_branch.convR1": "mask_branch.smooth",
    "Mask_branch.pred": "mask_branch.predict",
}
_OURS = {ours: official for official, ours in _MODULES.items()}
_STAGES = {"layer1": "res2", "layer2": "res3", "layer3": "res4"}


def official_name(ours: str) -> str:
    """The official name of one of our parameters or buffers.

    >>> official_name("backbone.layer1.0.bn2.running_var")
    'model.backbone.res2.0.conv2.norm.running_var'
    >>> official_name("backbone.layer2.0.downsample.0.weight")
    'model.backbone.res3.0.shortcut.weight'
    >>> official_name("tracking_branch.query.1.conv.bias")
    'model.Tracking_branch.track_Q_conv2.bias'
    >>> official_name("mask_branch.refine3.residual.conv2.weight")
    'model.Mask_branch.RefR3.ResF.conv2.weight'
    """
    if ours.startswith("backbone."):
        return PREFIX + _official_backbone_name(ours)
    module, _, rest = ours.rpartition(".")
    while module not in _OURS:
        module, _, last = module.rpartition(".")
        rest = f"{last}.{rest}"
    # In the official code the norm is a child of the convolution.
    return f"{PREFIX}{_OURS[module]}.{re.sub(r'^conv[.]', '', rest)}"


def _official_backbone_name(ours: str) -> str:
    name = re.sub(r"\bbn(\d)\b", r"conv\1.norm", ours)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    if name.startswith("backbone.conv1"):
        return name.replace("backbone", "backbone.stem", 1)
    _, stage, rest = name.split(".", 2)
    return f"backbone.{_STAGES[stage]}.{rest}"
