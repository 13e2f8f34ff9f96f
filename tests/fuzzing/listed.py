"""What random models are meant to exercise, by the names that ``exercised`` gives it."""

from __future__ import annotations

ALL_AXES = ("1d", "2d", "3d")

LISTED: dict[str, tuple[str, ...]] = {
    "linear operators": (
        *(f"nn.Conv{axes}" for axes in ALL_AXES),
        *(f"nn.ConvTranspose{axes}" for axes in ALL_AXES),
        *(f"F.conv{axes}" for axes in ALL_AXES),
        *(f"torch.conv{axes}" for axes in ALL_AXES),
        *(f"F.conv_transpose{axes}" for axes in ALL_AXES),
        "nn.Linear", "F.linear", "v @ c", "torch.matmul", "torch.mm", ".mm", "torch.addmm",
        "own.Conv2d", "own.Conv3d", "own.Linear",
    ),
    "norms": (
        *(f"nn.BatchNorm{axes}" for axes in ALL_AXES),
        *(f"nn.InstanceNorm{axes}" for axes in ALL_AXES),
        "nn.SyncBatchNorm", "F.batch_norm", "torch.batch_norm",
    ),
    "joins": (
        "v + v", "v - v", "v * v", "v / v", "torch.add", ".add", "torch.sub", ".sub", "torch.mul",
        ".mul", "torch.div", ".div", "torch.maximum", "torch.cat", "torch.concat", "torch.stack",
    ),
    "arithmetic with constants": ("v + c", "v - c", "v * c", "v / c", "-v", "torch.neg", ".norm"),
    "views": (
        ".view", ".view_as", ".reshape", ".reshape_as", "torch.reshape", ".flatten",
        "torch.flatten", ".unflatten", ".squeeze", "torch.squeeze", ".unsqueeze",
        "torch.unsqueeze", ".permute", "torch.permute", ".transpose", "torch.transpose",
        ".swapaxes", ".movedim", ".expand", ".expand_as", ".narrow", ".select", "v[slice]",
        "v[index]", "v[list]", "v[None]", ".chunk", "torch.chunk", ".split", "torch.split",
        "torch.unbind", "torch.tensor_split", "piece", ".detach", ".size", "nn.Flatten",
    ),
    "in place": (
        "v += v", "v -= v", "v *= v", "v += c", "v -= c", "v *= c", "v /= c", "v[..] = c",
        "v[..] *= c", ".add_", ".sub_", ".mul_", ".div_", ".neg_", ".clamp_", ".copy_", ".relu_",
        "torch.relu_", "F.relu, in place", "F.leaky_relu, in place", "nn.ReLU, in place",
        "nn.LeakyReLU, in place", "nn.ReLU6, in place", "nn.SiLU, in place", "nn.ELU, in place",
        "nn.Dropout, in place",
    ),
    "activations": (
        "nn.ReLU", "F.relu", "torch.relu", ".relu", "nn.LeakyReLU", "F.leaky_relu", "nn.ReLU6",
        "F.relu6", "nn.Hardtanh", ".clamp", "torch.clamp", ".clamp_min", "F.threshold",
        "nn.PReLU", "nn.Sigmoid", ".sigmoid", "nn.Tanh", ".tanh", "torch.tanh", "nn.SiLU",
        "F.silu", "nn.GELU", "F.gelu", "nn.Hardswish", "F.hardswish", "nn.Hardsigmoid", "nn.Mish",
        "nn.Softplus", "F.elu", "nn.Softmax", "F.softmax", ".exp", ".abs", "torch.square",
    ),
    "pooling": (
        *(f"{home}{kind}{axes}" for axes in ALL_AXES for home, kind in (
            ("nn.", "MaxPool"), ("F.", "max_pool"), ("nn.", "AvgPool"), ("F.", "avg_pool"),
            ("nn.", "AdaptiveAvgPool"), ("F.", "adaptive_avg_pool"),
            ("nn.", "AdaptiveMaxPool"), ("F.", "adaptive_max_pool"),
        )),
        ".mean", "torch.mean", ".sum", "torch.sum", ".amax", "torch.amax",
    ),
    "moves and copies": (
        ".contiguous", ".clone", ".to", ".flip", "torch.flip", ".roll", "torch.roll", ".repeat",
        ".repeat_interleave", "F.pixel_shuffle", "F.pixel_unshuffle", "nn.PixelShuffle",
        "F.channel_shuffle", "nn.ChannelShuffle", "F.unfold", "F.pad", "nn.ZeroPad2d",
        "nn.ConstantPad2d", "nn.ReflectionPad2d", "F.interpolate", "nn.Upsample",
    ),
    "nothing in eval mode": ("nn.Identity", "nn.Dropout", "nn.Dropout2d", "F.dropout"),
    "assertions": ("torch._assert", ".dim"),
    "shared modules": (
        "layer called again", "norm called again", "weight shared by two layers", "nn.Sequential",
    ),
    "dtypes": ("float64", "float32", "mixed_float16", "mixed_bfloat16"),
}  # fmt: skip
"""The names by what they are; ``v`` is a value of the forward, ``c`` a constant."""
