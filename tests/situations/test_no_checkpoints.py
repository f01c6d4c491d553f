"""Files that are given as checkpoints and are none. Each is one error, and nothing is loaded or run."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from situations import situation
from torch import nn


class Net(nn.Module):
    """A class that only the one who saved it has."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)


@situation(
    "the whole model, pickled (`torch.save(model)`)",
    "refused, for it could run code: save the state dict",
    reported="pytorch/pytorch#18325",
)
def test_a_whole_model(path, refused):
    torch.save(Net(), path)
    refused(path, "state_dict")
    torch.save({"epoch": -1, "model": Net(), "train_args": {}}, path)
    refused(path, "state_dict")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@situation("a TorchScript archive", "refused, and said that it is one", reported="cavalleria/cavaface#57")
def test_torchscript(path, refused):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)), path)
    refused(path, "TorchScript")


@situation("a `torch.export` program (`.pt2`)", "refused: name it as the model")
def test_an_exported_program(path, refused):
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.rand(1, 2),)), path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)
    refused(path, "export", "exported")


@situation(
    "the second half of the file is missing", "refused: was it copied whole?", reported="CompVis/stable-diffusion#93"
)
def test_half_a_file(state, path, tmp_path, refused):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, "damaged")
    save_file(state, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "model.safetensors", "damaged")


@situation(
    "a web page that was saved in the file's place",
    "refused, and said that it is one",
    reported="ConstantinSeibold/ChestXRayAnatomySegmentation#17",
)
def test_a_web_page(path, tmp_path, refused):
    page = b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>" * 9
    for name in ("weights.pth", "model.safetensors"):
        (tmp_path / name).write_bytes(page)
        refused(tmp_path / name, "HTML")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0f" * 32 + b"\nsize 102979767\n"


@situation(
    "git's pointer in the file's place (`git lfs`)", "refused: `git lfs pull`", reported="bjekic/WallSegmentation#3"
)
def test_a_pointer_of_git(tmp_path, refused):
    for name in ("weights.pth", "model.safetensors", "weights.h5"):
        (tmp_path / name).write_bytes(LFS)
        refused(tmp_path / name, "git lfs pull")
