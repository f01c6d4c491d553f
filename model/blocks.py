"""Building blocks that the mobile architectures share.

All blocks take and give ``(N, C, H, W)`` float tensors. Convolutions carry no bias of their own: a BatchNorm
follows each of them, and the fold stage turns the pair into one convolution with a bias.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F


def make_divisible(value: float, divisor: int = 8, minimum: int | None = None) -> int:
    """The multiple of `divisor` nearest to `value`, at least `minimum`, and never more than 10 % below `value`.

    This is the published rounding of MobileNet channel counts: a plain rounding would take away more than a
    tenth of a narrow layer.

    Args:
        value: wanted number of channels, for example ``32 * width``.
        divisor: channels come in multiples of this.
        minimum: smallest allowed result; `divisor` by default.
    """
    floor = divisor if minimum is None else minimum
    rounded = max(floor, int(value + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * value:
        rounded += divisor
    return rounded


ACTIVATIONS: Mapping[str, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU, "hardswish": nn.Hardswish}
"""By name. They are modules on purpose: the quantizer fuses the module form, and leaves float islands around the
functional one."""


BATCH_NORM_EPS: Mapping[str, float] = {"torch": 1e-5, "tensorflow": 1e-3}
"""Added to the variance, by padding. One setting decides both: a network that was trained in TensorFlow has both of its
conventions (Keras's applications and the published EfficientNet-Lite alike). One network has one alone: torchvision's
MobileNetV3, which was trained with TensorFlow's epsilon."""


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `size` values, as TensorFlow's padding "SAME" puts them: the output has
    ``ceil(size / stride)`` values, and of an odd number of zeros the larger half comes after.

    Source: the documentation of `tf.nn.convolution`, "Notes on padding".
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


class SamePaddedConv2d(nn.Conv2d):
    """A convolution that pads with `same_padding` of the map that it is given; the kernel is square.

    Where both sides get the same, and so with every stride of 1, the convolution pads itself. Where they do not, which
    no convolution of torch can do, the zeros come as an operation of their own in front.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (top, bottom), (left, right) = (
            same_padding(size, (kernel - 1) * dilation + 1, stride)
            for size, kernel, stride, dilation in zip(
                input.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        if (top, left) == (bottom, right):
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    padding: str = "torch",
    dilation: int = 1,
) -> nn.Conv2d:
    """Without a bias, padded so that a stride of 1 keeps the size.

    Args:
        padding: "torch", ``dilation * (kernel_size - 1) / 2`` zeros on each side, or "tensorflow", `same_padding`.
        dilation: pixels from one value that the kernel sees to the next.
    """
    if padding not in BATCH_NORM_EPS:
        raise ValueError(f"padding must be one of {list(BATCH_NORM_EPS)}, not '{padding}'")
    if padding == "tensorflow" and stride > 1:
        return SamePaddedConv2d(
            in_channels, out_channels, kernel_size, stride, dilation=dilation, groups=groups, bias=False
        )
    zeros = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, zeros, dilation, groups, bias=False)


class ConvBNActivation(nn.Sequential):
    """Convolution -> BatchNorm -> activation, with the "same" zero padding of an odd kernel.

    Args:
        padding: see `convolution`.
        dilation: the same.
        eps: of BatchNorm, where it is not its padding's in `BATCH_NORM_EPS`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        activation: str = "relu6",
        padding: str = "torch",
        dilation: int = 1,
        eps: float | None = None,
    ) -> None:
        super().__init__(
            convolution(in_channels, out_channels, kernel_size, stride, groups, padding, dilation),
            nn.BatchNorm2d(out_channels, BATCH_NORM_EPS[padding] if eps is None else eps),
            ACTIVATIONS[activation](inplace=False),
        )
        self.stride, self.out_channels = stride, out_channels


class InvertedResidual(nn.Module):
    """Expand -> depthwise -> linear projection, with a residual where shapes allow one.

    Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, section 3.3. The
    projection is linear: a ReLU on the narrow bottleneck would destroy information.

    Args:
        in_channels: channels of the incoming bottleneck.
        out_channels: channels of the outgoing bottleneck.
        stride: 1 or 2; a residual is added where it is 1 and the channel counts agree.
        expand_ratio: width of the hidden layer over `in_channels`; 1 leaves the expansion out.
        activation: of the expansion and the depthwise convolution; a key of `ACTIVATIONS`.
        padding: see `convolution`.
        kernel_size: of the depthwise convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand_ratio: int,
        activation: str = "relu6",
        padding: str = "torch",
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, not {stride}")
        hidden = round(in_channels * expand_ratio)
        self.stride, self.out_channels = stride, out_channels
        self.use_res_connect = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(ConvBNActivation(in_channels, hidden, 1, activation=activation, padding=padding))
        layers += [
            ConvBNActivation(hidden, hidden, kernel_size, stride, hidden, activation, padding),
            convolution(hidden, out_channels, 1, padding=padding),
            nn.BatchNorm2d(out_channels, BATCH_NORM_EPS[padding]),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, in_channels, H, W)`` -> ``(N, out_channels, ceil(H / stride), ceil(W / stride))``."""
        y: torch.Tensor = self.conv(x)
        return x + y if self.use_res_connect else y

    def in_parts(self) -> tuple[nn.Module, nn.Module] | None:
        """The expansion, and what follows it: together the block, of a stride of 2. None without an expansion."""
        return (self.conv[0], self.conv[1:]) if len(self.conv) == 4 else None


class SqueezeExcite(nn.Module):
    """Each channel of a map times a number in 0..1 that is made of the means of all channels.

    Source: Hu et al., "Squeeze-and-Excitation Networks", 2018, with the hard sigmoid of Howard et al. 2019, section 5.2.

    Args:
        channels: of the map.
        squeezed: of the layer between.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, channels, H, W)`` -> the same shape."""
        gate = self.fc2(self.activation(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * self.scale_activation(gate)  # type: ignore[no-any-return]


class Pool(nn.MaxPool2d):
    """The largest of 3x3 values of each channel, at every pixel or every other; ``ceil(size / stride)`` of them.

    Args:
        channels: of the map.
        stride: 1 or 2.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(3, stride, 1)
        self.out_channels = channels


def initialize(model: nn.Module, *last: nn.Module) -> None:
    """He initialization of convolutions, small normal weights in linear layers and in those that are the last."""
    for module in model.modules():
        if isinstance(module, nn.Linear) or module in last:
            nn.init.normal_(module.weight, 0.0, 0.01)  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class MobileClassifier(nn.Module):
    """Features, their mean over the map, and a linear classifier.

    Args:
        features: blocks from images ``(N, 3, H, W)`` to maps.
        channels: of the last map.
        num_classes: length of the logits.
        dropout: probability of the dropout before the classifier, in training only.
        padding: of its convolutions; see `convolution`.
        hidden: width of a linear layer with a hard swish in front of the classifier; None leaves it out.
    """

    def __init__(
        self,
        features: list[nn.Module],
        channels: int,
        num_classes: int,
        dropout: float,
        padding: str,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        self.padding = padding
        self.features = nn.Sequential(*features)
        layers: list[nn.Module] = [nn.Dropout(dropout), nn.Linear(hidden or channels, num_classes)]
        if hidden is not None:
            layers[:0] = [nn.Linear(channels, hidden), nn.Hardswish()]
        self.classifier = nn.Sequential(*layers)
        initialize(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, num_classes)`` of normalized RGB images ``(N, 3, H, W)`` float32."""
        x = self.features(x)
        # keepdim and an explicit flatten keep the head inside one ExecuTorch delegate and free of a TRANSPOSE in
        # LiteRT; adaptive_avg_pool2d, or a mean without keepdim, do not (litert-torch 0.10, executorch 1.5).
        x = x.mean((2, 3), keepdim=True).flatten(1)
        logits: torch.Tensor = self.classifier(x)
        return logits
