"""What the tests of several kinds of files share."""

from __future__ import annotations

import re

import pytest
import torch
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.stages.weights import load_into


@pytest.fixture
def network(shallow_model):
    """Make a small network whose every number is drawn from a seed, counters of batches too."""

    def make(seed):
        model = shallow_model()
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.copy_(
                    torch.rand(tensor.shape) * 100 if tensor.dtype == torch.int64 else torch.rand(tensor.shape)
                )
        return model

    return make


@pytest.fixture
def state(network):
    return network(1).state_dict()


@pytest.fixture
def other(network):
    return network(2).state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture
def gives(network):
    """Check that a file gives these numbers, to the last bit."""

    def check(path, wanted):
        model = network(3)
        load_into(model, path)
        found = model.state_dict()
        assert found.keys() == wanted.keys()
        assert [key for key in wanted if not torch.equal(found[key], wanted[key])] == []

    return check


@pytest.fixture
def refused(network):
    """Check that a file is one error, that it names the file and these words, and that nothing was loaded."""

    def check(path, *words):
        model = network(3)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(WeightsError) as raised:
            load_into(model, path)
        text = str(raised.value)
        assert str(path) in text and len(text) < 3000, text
        assert [word for word in words if not re.search(word, text, re.IGNORECASE)] == [], text
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    return check
