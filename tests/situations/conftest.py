"""What the tests of several kinds of files share."""

from __future__ import annotations

import pytest
import torch


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
