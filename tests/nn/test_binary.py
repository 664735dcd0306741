"""Layers of few bits while they learn: gradients against loops, product by product, in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import model_of

from lookonce.layers.binary import GRADIENTS, Bits
from lookonce.model import Model
from lookonce.nn import TorchNetwork
from lookonce.nn.binary import few_bits, few_levels, one_bit, slope


# ---------------------------------------------------------------------- the thesis in loops
def level(value: float, bits: int) -> float:
    """q_k: of the 2^k levels from -1 to 1 the nearest, the lower of two that are as near; of one bit the sign."""
    levels = [-1 + 2 * step / (2**bits - 1) for step in range(2**bits)]
    best = levels[0]
    for one in levels:
        if abs(value - one) < abs(value - best) - 1e-12:
            best = one
    return best


def back_through_sign(r: float, gradient: str) -> float:
    """What the sign's derivative is taken for at r."""
    if gradient in ("darknet", "allenai"):
        return 1.0 if -1 < r < 1 else 0.0
    return (r if gradient == "printed" else 1.0) if abs(r) <= 1 else 0.0


class Loops:
    """One layer with weights (O, C, k, k), zero padding and stride 1, forward and back, product by product."""

    def __init__(self, options: dict[str, str], x: np.ndarray, arrays: dict[str, np.ndarray], noise: np.ndarray):
        """The loss is the sum of the outputs times `noise`."""
        self.xnor, self.gradient = "xnor" in options, options.get("gradient", "darknet")
        self.alpha = options.get("alpha", "mean")
        self.weight_bits, self.input_bits = (int(options.get(key, 1)) for key in ("weight_bits", "input_bits"))
        self.groups, self.k = int(options.get("groups", 1)), "input_scale" in options
        self.x, self.weights, self.biases = x, arrays["weights"], arrays["biases"]
        self.learned = arrays.get("alpha")
        filters, each, size, _ = self.weights.shape
        self.count = each * size * size
        seen = np.vectorize(lambda value: level(value, self.input_bits))(x) if self.xnor else x
        codes, alphas, reaches = self.encoded()
        made = codes * alphas.reshape(-1, 1, 1, 1)

        total, k = np.zeros(noise.shape), np.zeros(noise.shape)
        for out, weight, at in self.taps(noise.shape):
            total[out] += seen[at] * made[weight]
            k[out] += abs(x[at]) / self.count
        k = k if self.k else np.ones(noise.shape)
        self.output = total * k + self.biases.reshape(1, -1, 1, 1)

        of_total, of_k = noise * k, noise * total
        through = of_total.copy()
        if "binary_gradient" in options:
            for picture in range(len(x)):
                most = max(abs(value) for value in of_total[picture].flat)
                for place, value in np.ndenumerate(of_total[picture]):
                    through[picture][place] = most if value > 0 else -most if value < 0 else 0.0
        of_seen, self.of_x, of_made = np.zeros(x.shape), np.zeros(x.shape), np.zeros(self.weights.shape)
        for out, weight, at in self.taps(noise.shape):
            of_seen[at] += through[out] * made[weight]
            of_made[weight] += of_total[out] * seen[at]
            if self.k:
                self.of_x[at] += of_k[out] / self.count * (1 if x[at] > 0 else -1 if x[at] < 0 else 0)
        for place, value in np.ndenumerate(x):
            self.of_x[place] += of_seen[place] * (back_through_sign(value, self.gradient) if self.xnor else 1)
        self.of_weights, self.of_learned = np.zeros(self.weights.shape), np.zeros(filters)
        for place, value in np.ndenumerate(self.weights):
            number = place[0]
            self.of_learned[number] += of_made[place] * codes[place]
            part = back_through_sign(value / reaches[number], self.gradient) * alphas[number] / reaches[number]
            if self.alpha == "mean":
                part += 1 / self.count
            if self.gradient == "allenai":
                part *= (1 - 1 / each) * self.count
            self.of_weights[place] = of_made[place] * (1 if self.gradient == "darknet" else part)
        self.of_biases = noise.sum((0, 2, 3))

    def encoded(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes of all weights, and each filter's alpha and reach."""
        codes, alphas, reaches = np.zeros(self.weights.shape), np.ones(len(self.weights)), np.ones(len(self.weights))
        for number, one in enumerate(self.weights):
            if self.weight_bits > 1 and self.alpha != "none":
                reaches[number] = max(abs(value) for value in one.flat)
            for place, value in np.ndenumerate(one):
                codes[number][place] = level(value / reaches[number], self.weight_bits)
            if self.learned is not None:
                alphas[number] = self.learned[number]
            elif self.alpha == "mean":
                pairs = list(zip(one.flat, codes[number].flat, strict=True))
                alphas[number] = sum(a * b for a, b in pairs) / sum(b * b for _, b in pairs)
        return codes, alphas, reaches

    def taps(self, shape: tuple[int, ...]) -> itertools.chain[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        """Every product: where it is summed, which weight, and which input."""
        filters, each, size, _ = self.weights.shape
        batch, channels, height, width = self.x.shape
        found = []
        for b, o, row, column in itertools.product(range(batch), range(filters), range(shape[2]), range(shape[3])):
            first = o // (filters // self.groups) * (channels // self.groups)
            for c, dy, dx in itertools.product(range(each), range(size), range(size)):
                y, z = row - size // 2 + dy, column - size // 2 + dx
                if 0 <= y < height and 0 <= z < width:
                    found.append(((b, o, row, column), (o, c, dy, dx), (b, first + c, y, z)))
        return itertools.chain(found)


OPTIONS = [
    "binary=1", "xnor=1", "binary=1 alpha=none", "xnor=1 alpha=none", "xnor=1 alpha=learned", "binary=1 weight_bits=2",
    "binary=1 weight_bits=3 alpha=none", "binary=1 weight_bits=2 alpha=learned", "xnor=1 input_bits=2 weight_bits=4",
    "xnor=1 input_scale=1", "xnor=1 groups=2 input_scale=1", "binary=1 groups=2", "xnor=1 binary_gradient=1",
    "binary=1 binary_gradient=1", "xnor=1 input_scale=1 binary_gradient=1 alpha=learned",
]  # fmt: skip


def drawn_case(section: str, options: str, gradient: str) -> tuple[Model, dict[str, str], np.ndarray, np.ndarray]:
    """A layer, its options, its input and the noise that its output is multiplied with; values at and beyond all
    edges: 0, 1, -1 and more than 1."""
    words = dict(word.split("=") for word in options.split()) | {"gradient": gradient}
    lines = "\n".join(f"{key}={value}" for key, value in words.items())
    model = model_of(f"[net]\nchannels=4\nheight=3\nwidth=4\n{section}\n{lines}\nactivation=linear\n")
    rng = np.random.default_rng(len(options))
    for arrays in model.weights:
        for array in arrays.values():
            array[...] = rng.normal(0, 0.7, array.shape)
    weights = model.weights[0]["weights"].reshape(-1)
    weights[:6] = [0, -0.0, 1, -1, 1.7, -1.7]
    x = rng.normal(0, 1, (2, 4, 3, 4))
    x[0, 0] = [[0, -0.0, 1, -1], [1.5, -1.5, 0.5, -0.5], [0, 0, 0.2, -0.2]]
    noise = rng.normal(0, 1, (2, *model.network.nodes[0].shape))
    noise[0, 0, 0, 0] = 0
    return model, words, x, noise


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_are_the_formulas_product_by_product(options: str, gradient: str) -> None:
    """Of inputs, weights, biases and learned alphas, in float64, and the output with them."""
    model, words, x, noise = drawn_case("[convolutional]\nfilters=4\nsize=3\npad=1", options, gradient)
    network = TorchNetwork(model).double().train()
    tensor = torch.from_numpy(x).requires_grad_()
    output = network(tensor)[0]
    (output * torch.from_numpy(noise)).sum().backward()
    arrays = {name: value.detach().numpy() for name, value in network.arrays(network.network.nodes[0]).items()}
    wanted = Loops(words, x, arrays, noise)
    np.testing.assert_allclose(output.detach(), wanted.output, rtol=1e-9, atol=1e-12)
    gradients = {name: value.grad for name, value in network.arrays(network.network.nodes[0]).items()}
    np.testing.assert_allclose(tensor.grad, wanted.of_x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradients["weights"], wanted.of_weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(gradients["biases"], wanted.of_biases, rtol=1e-9, atol=1e-12)
    if words.get("alpha") == "learned":
        np.testing.assert_allclose(gradients["alpha"], wanted.of_learned, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("options", [options for options in OPTIONS if "groups" not in options])
def test_a_connected_layer_learns_by_them_as_a_convolution_of_one_pixel(options: str, gradient: str) -> None:
    model, words, x, noise = drawn_case("[connected]\noutput=3", options, gradient)
    network = TorchNetwork(model).double().train()
    tensor = torch.from_numpy(x).requires_grad_()
    output = network(tensor)[0]
    (output * torch.from_numpy(noise)).sum().backward()
    own = network.arrays(network.network.nodes[0])
    arrays = {name: value.detach().numpy() for name, value in own.items()}
    arrays["weights"] = arrays["weights"].reshape(3, 48, 1, 1)
    wanted = Loops(words, x.reshape(2, 48, 1, 1), arrays, noise)
    np.testing.assert_allclose(output.detach(), wanted.output, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tensor.grad.reshape(2, 48, 1, 1), wanted.of_x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(own["weights"].grad.reshape(3, 48, 1, 1), wanted.of_weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(own["biases"].grad, wanted.of_biases, rtol=1e-9, atol=1e-12)
    if words.get("alpha") == "learned":
        np.testing.assert_allclose(own["alpha"].grad, wanted.of_learned, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------------- the formulas in numbers
@pytest.mark.parametrize(
    ("gradient", "wanted"),
    [
        ("darknet", [0, 0, 1, 1, 1, 0, 0]),
        ("allenai", [0, 0, 1, 1, 1, 0, 0]),
        ("thesis", [0, 1, 1, 1, 1, 1, 0]),
        ("printed", [0, -1, -0.5, 0, 0.5, 1, 0]),
    ],
)
def test_the_sign_hands_back_what_lies_near_0(gradient: str, wanted: list[float]) -> None:
    """At -2, -1, -.5, 0, .5, 1 and 2: Darknet's edges are open, the thesis's closed."""
    x = torch.tensor([-2, -1, -0.5, 0, 0.5, 1, 2], requires_grad=True)
    assert slope(x, gradient).tolist() == wanted
    for bits in (1, 2, 8):
        x.grad = None
        (few_levels(x, bits, gradient) * 3).sum().backward()
        assert x.grad is not None
        assert x.grad.tolist() == [3 * value for value in wanted]


def test_a_filter_of_four_weights_by_hand() -> None:
    """W = (.5, -1.5, 0, 2): n = 4, alpha = 1. With dC/dW~ = 1: thesis 1/4 + 1 where |W| <= 1, else 1/4."""
    weights = torch.tensor([[0.5, -1.5, 0, 2]])
    for gradient, wanted in {
        "darknet": [1, 1, 1, 1],
        "thesis": [1.25, 0.25, 1.25, 0.25],
        "printed": [0.75, 0.25, 0.25, 0.25],
        "allenai": [1.25 * 3, 0.25 * 3, 1.25 * 3, 0.25 * 3],        # times n (1 - 1/s), both 4
    }.items():
        own = weights.clone().requires_grad_()
        made = few_bits(own, Bits(gradient=gradient))
        assert made.tolist() == [[1, -1, -1, 1]]
        made.sum().backward()
        assert own.grad is not None
        assert own.grad.tolist() == [wanted]


def test_a_gradient_of_one_bit_is_the_largest_of_its_picture_with_its_sign() -> None:
    """And 0 stays 0: of what a pool did not choose nothing comes back."""
    gradient = torch.tensor([[[[1.0, -4.0]], [[0.0, 2.0]]], [[[0.5, 0.25]], [[-0.0, -0.125]]]])
    assert one_bit(gradient).tolist() == [[[[4, -4]], [[0, 4]]], [[[0.5, 0.5]], [[0, -0.5]]]]


def test_a_gradient_of_one_bit_reaches_the_input_and_not_the_weights() -> None:
    text = "[net]\nwidth=6\nheight=5\nchannels=2\n[convolutional]\nfilters=4\nsize=3\npad=1\nxnor=1\nactivation=leaky\n"
    found = {}
    for option in ("", "binary_gradient=1\n"):
        network = TorchNetwork(model_of(text + option)).train()
        x = (torch.rand(3, 2, 5, 6, generator=torch.Generator().manual_seed(0)) - 0.5).requires_grad_()
        (network(x)[0] ** 2).sum().backward()
        found[option] = (network.arrays(network.network.nodes[0])["weights"].grad, x.grad)
    plain, binary = found.values()
    assert torch.equal(plain[0], binary[0])
    assert not torch.allclose(plain[1], binary[1], rtol=0.1)


@pytest.mark.parametrize("options", ["binary=1 binary_gradient=1", "xnor=1 input_scale=1 binary_gradient=1", "xnor=1"])
@pytest.mark.parametrize("section", ["[convolutional]\nfilters=4\nsize=3\npad=1", "[connected]\noutput=4"])
def test_they_learn_in_bf16(section: str, options: str) -> None:
    """Gradients have the precision of what they are of, and are near those of float32."""
    model, _, x, noise = drawn_case(section, options, "thesis")
    found = []
    for enabled in (False, True):
        network = TorchNetwork(model).train()
        tensor = torch.from_numpy(x).float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = network(tensor)[0]
        (output.float() * torch.from_numpy(noise).float()).sum().backward()
        gradients = [tensor.grad, *(value.grad for value in network.parameters())]
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
        found.append(gradients)
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert (one - other).norm() < 0.05 * one.norm()
