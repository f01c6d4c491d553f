"""TensorFlow's padding against an evaluation in numpy that knows nothing of torch, and EfficientNet-Lite's counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from twinkeel.model import efficientnet_lite, mobilenet_v2
from twinkeel.model.blocks import ConvBNActivation, InvertedResidual, convolution, same_padding
from twinkeel.model.count import count, published


def with_statistics(module):
    """BatchNorm with statistics and factors that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    for norm in [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]:
        for tensor, low, high in ((norm.weight.data, 0.5, 2), (norm.bias.data, -1, 1), (norm.running_mean, -1, 1)):
            tensor.uniform_(low, high, generator=generator)
        norm.running_var.uniform_(0.001, 2, generator=generator)  # small ones show the epsilon
    return module.eval()


def same_convolution(x, kernel, stride, is_depthwise=False):
    """``(H, W, C)`` and a kernel ``(k, k, in, out)``, depthwise ``(k, k, C, 1)``, as `tf.nn` does with padding "SAME"."""
    out = [-(-size // stride) for size in x.shape[:2]]
    taps = len(kernel)
    total = [max((o - 1) * stride + taps - size, 0) for o, size in zip(out, x.shape[:2], strict=True)]
    padded = np.zeros((x.shape[0] + total[0], x.shape[1] + total[1], x.shape[2]))
    padded[total[0] // 2 : total[0] // 2 + x.shape[0], total[1] // 2 : total[1] // 2 + x.shape[1]] = x
    result = np.zeros((*out, x.shape[2] if is_depthwise else kernel.shape[3]))
    for i in range(out[0]):
        for j in range(out[1]):
            window = padded[i * stride : i * stride + taps, j * stride : j * stride + taps]
            if is_depthwise:
                result[i, j] = (window * kernel[..., 0]).sum((0, 1))
            else:
                result[i, j] = np.tensordot(window, kernel, 3)
    return result


def normalized(x, norm):
    gamma, beta, mean, variance = (
        t.detach().double().numpy() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta  # Keras's default and EfficientNet's epsilon


def kernel_of(conv):
    axes = (2, 3, 0, 1) if conv.groups > 1 else (2, 3, 1, 0)
    return conv.weight.detach().double().numpy().transpose(axes)


def unit(x, conv, norm, is_clipped=True):
    y = normalized(same_convolution(x, kernel_of(conv), conv.stride[0], conv.groups > 1), norm)
    return np.clip(y, 0, 6) if is_clipped else y


@pytest.mark.parametrize("size", [9, 10, 15, 16])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (5, 1), (3, 3)])
def test_a_unit_computes_what_tensorflow_does(size, kernel, stride):
    torch.manual_seed(0)
    made = with_statistics(ConvBNActivation(4, 6, kernel, stride, padding="tensorflow"))
    x = torch.randn(1, 4, size, size + 1)
    found = made(x)[0].detach().numpy().transpose(1, 2, 0)
    wanted = unit(x[0].double().numpy().transpose(1, 2, 0), made[0], made[1])
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max(), np.abs(found - wanted).max()


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0"])
def test_the_first_layers_of_a_network_compute_what_tensorflow_does(name):
    torch.manual_seed(0)
    if name == "mobilenet_v2":
        model = mobilenet_v2.create(10, 0.35, padding="tensorflow")
    else:
        model = efficientnet_lite.create(10, 0.35, name=name)
    with_statistics(model)
    image = torch.randn(1, 3, 36, 36)
    x = image[0].double().numpy().transpose(1, 2, 0)
    x = unit(x, model.features[0][0], model.features[0][1])
    for number in range(1, 5):
        block = model.features[number].conv
        y = x
        for inside in block[:-2]:
            y = unit(y, inside[0], inside[1])
        y = unit(y, block[-2], block[-1], is_clipped=False)
        x = x + y if model.features[number].use_res_connect else y
    found = model.features[:5](image)[0].detach().numpy().transpose(1, 2, 0)
    assert found.shape == x.shape == (5, 5, x.shape[2])
    assert np.abs(found - x).max() < 1e-5 * np.abs(x).max(), (np.abs(found - x).max(), np.abs(x).max())


def test_the_paddings_differ_where_the_stride_is_2_alone():
    torch.manual_seed(0)
    blocks = [InvertedResidual(8, 8, stride, 6, padding=p) for stride in (1, 2) for p in ("torch", "tensorflow")]
    for one, other in (blocks[:2], blocks[2:]):
        other.load_state_dict(one.state_dict())
        for norm in [m for b in (one, other) for m in b.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.eps = 1e-5
    x = torch.randn(2, 8, 16, 16)
    first, second, third, fourth = (block.eval()(x) for block in blocks)
    assert torch.equal(first, second)
    assert third.shape == fourth.shape and not torch.allclose(third, fourth, atol=1e-3)


def test_an_odd_map_is_padded_evenly():
    assert [same_padding(size, 3, 2) for size in (9, 10)] == [(1, 1), (0, 1)]
    assert [same_padding(size, 5, 2) for size in (9, 10)] == [(2, 2), (1, 2)]
    assert same_padding(10, 1, 2) == (0, 0)


def test_an_unknown_padding_is_named():
    with pytest.raises(ValueError, match="not 'valid'"):
        convolution(3, 8, 3, padding="valid")


@pytest.mark.parametrize("name", efficientnet_lite.RESOLUTIONS)
def test_counts_of_efficientnet_lite_are_the_published_ones(name):
    """The published multiply-adds are half of the operations that TensorFlow's profiler counts. They are above those of
    convolutions and linear layer by three for each value that a BatchNorm gives, in all five within their three digits but
    for 0.4 % of the smallest."""
    (row,) = published(name)
    values = 0

    def add(module, _, output):
        nonlocal values
        values += output.numel()

    with torch.device("meta"):
        model = efficientnet_lite.create(1000, 1.0, name=name)
        for norm in [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]:
            norm.register_forward_hook(add)
        found = count(model, *[efficientnet_lite.RESOLUTIONS[name]] * 2)
    assert float(f"{found.parameters:.1e}") == row.parameters
    with_norms = (found.multiply_adds + 3 * values) / 1e6
    assert abs(with_norms / row.mega_multiply_adds - 1) < 0.005, (with_norms, row.mega_multiply_adds)


@pytest.mark.parametrize(("name", "blocks"), list(zip(efficientnet_lite.VARIANTS, (16, 21, 21, 24, 30), strict=True)))
def test_depth_is_scaled_but_for_the_first_and_the_last_stage(name, blocks):
    with torch.device("meta"):
        features = efficientnet_lite.create(10, 1.0, name=name).features
    assert len(features) == blocks + 2
    assert features[0][0].out_channels == 32 and features[-1][0].out_channels == 1280


def test_width_leaves_the_stem_and_the_head_of_efficientnet_lite():
    features = efficientnet_lite.create(10, 0.25).features
    assert (features[0][0].out_channels, features[-1][0].out_channels) == (32, 1280)
    assert features[-2].conv[-1].num_features == 80
