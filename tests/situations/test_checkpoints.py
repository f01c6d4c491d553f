"""Checkpoints. They are loaded into a network of other numbers, which must have exactly those of the file afterwards."""

from __future__ import annotations

import argparse
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from situations import situation
from torch import nn
from twinkeel.pipeline.config import Weights
from twinkeel.pipeline.errors import WeightsError
from twinkeel.pipeline.stages.checkpoint import locate
from twinkeel.pipeline.stages.weights import Asked, load_into, outputs_in


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def optimizer_of(model):
    """The state of an optimizer that has made a step: tensors too, under numbers."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


# names and wrappers


@situation(
    "names that begin with `_orig_mod.`, of a compiled model",
    "loads",
    reported="huggingface/pytorch-image-models#1566",
)
def test_compiled(state, path, gives):
    torch.save(prefixed(state, "_orig_mod."), path)
    gives(path, state)


@situation(
    "`module._orig_mod.`: compiled, then distributed, and the other way round",
    "loads",
    reported="huggingface/pytorch-image-models#2003",
)
def test_compiled_and_distributed(state, path, gives):
    for prefix in ("module._orig_mod.", "_orig_mod.module."):
        torch.save({"state_dict": prefixed(state, prefix)}, path)
        gives(path, state)


@situation(
    "Lightning's `.ckpt`: `state_dict` with `model.` before each name, optimizers and callbacks beside it",
    "loads",
    reported="Lightning-AI/pytorch-lightning#3629",
)
def test_lightning(network, state, tmp_path, gives):
    path = tmp_path / "epoch=3-step=120.ckpt"
    content = {"epoch": 3, "global_step": 120, "pytorch-lightning_version": "2.5.0"}
    content |= {"state_dict": prefixed(state, "model."), "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {}}
    content |= {"optimizer_states": [optimizer_of(network(4))], "lr_schedulers": [{"_last_lr": [0.1], "last_epoch": 3}]}
    torch.save(content | {"hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1}}, path)
    gives(path, state)


@situation("the same with `model.model.`", "loads", reported="airctic/icevision#1017")
def test_a_module_in_a_module(state, path, gives):
    torch.save({"state_dict": prefixed(state, "model.model.")}, path)
    gives(path, state)


@situation("timm's `state_dict` and `state_dict_ema` side by side", "loads the averaged ones, as timm does")
def test_averaged_weights_are_taken(state, other, path, gives):
    torch.save({"epoch": 9, "arch": "mobilenetv2", "state_dict": other, "state_dict_ema": state, "version": 2}, path)
    gives(path, state)


@situation(
    "averaged weights of a distributed training: `state_dict_ema` with `module.`",
    "loads the averaged ones",
    reported="sming256/OpenTAD#44",
)
def test_averaged_weights_of_a_distributed_training(state, other, path, gives):
    torch.save({"state_dict": other, "state_dict_ema": prefixed(state, "module.")}, path)
    gives(path, state)


@situation("`net` around the tensors", "loads", reported="Deci-AI/super-gradients#1153")
def test_net(state, path, gives):
    torch.save({"net": state, "acc": 0.93, "epoch": 120}, path)
    gives(path, state)


@situation(
    "`model_state_dict`, as torch's tutorial saves it, with optimizer and loss",
    "loads",
    reported="ziyangyeh/iMeshSegNet#1",
)
def test_model_state_dict(network, state, path, gives):
    optimizer = optimizer_of(network(4))
    torch.save(
        {"epoch": 5, "model_state_dict": state, "optimizer_state_dict": optimizer, "loss": torch.tensor(0.3)}, path
    )
    gives(path, state)


@situation(
    "the arguments of the training, an `argparse.Namespace`, beside the tensors",
    "loads",
    reported="ROCm/Megatron-LM#56",
)
def test_a_namespace_beside_the_tensors(state, path, gives):
    torch.save({"model": state, "args": argparse.Namespace(lr=0.1, data="/data", amp=True), "epoch": 1}, path)
    gives(path, state)


@situation(
    "the score of the training, a number of numpy's, beside the tensors",
    "loads",
    reported="Megvii-BaseDetection/YOLOX#1906",
)
def test_a_number_of_numpy_beside_the_tensors(state, path, gives):
    torch.save({"model": state, "best_ap": np.mean([0.5, 0.6]), "curr_ap": np.float32(0.5)}, path)
    gives(path, state)


@situation(
    "no `num_batches_tracked`: from before they existed",
    "loads; the counters keep theirs",
    reported="pytorch/pytorch#8430",
)
def test_no_counters(network, state, path, gives):
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    counters = {k: v for k, v in network(3).state_dict().items() if k.endswith("num_batches_tracked")}
    assert counters
    gives(path, state | counters)


@situation("`total_ops` and `total_params` of thop in every layer", "loads", reported="ultralytics/yolov3#1528")
def test_counts_of_a_profiler(network, state, path, gives):
    counts = {
        f"{name}{'.' if name else ''}{count}": torch.zeros(1, dtype=torch.float64)
        for name, _ in network(1).named_modules()
        for count in ("total_ops", "total_params")
    }
    torch.save(state | counts, path)
    gives(path, state)


# numbers


@situation("half precision", "loads; each number is the half's")
def test_half(state, path, gives):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(half, path)
    gives(path, {key: value.to(state[key].dtype) for key, value in half.items()})


@situation("bfloat16, in safetensors", "loads; each number is bfloat16's")
def test_bfloat16(state, tmp_path, gives):
    short = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
    save_file(short, tmp_path / "model.safetensors")
    gives(tmp_path / "model.safetensors", {key: value.to(state[key].dtype) for key, value in short.items()})


@situation(
    "saved on a GPU (`cuda:0`, `mps`) and read where there is none", "loads", reported="open-mmlab/mmdetection#5274"
)
def test_saved_on_another_device(state, path, tmp_path, gives):
    torch.save(state, path)
    for device in (b"cuda:0", b"mps"):
        moved = tmp_path / "moved.pth"
        with zipfile.ZipFile(path) as read, zipfile.ZipFile(moved, "w", zipfile.ZIP_STORED) as write:
            for name in read.namelist():
                content = read.read(name)
                if name.endswith("data.pkl"):  # where a tensor lies is a text in it: X, the length, the letters
                    assert content.count(b"X\x03\x00\x00\x00cpu") == 1
                    content = content.replace(
                        b"X\x03\x00\x00\x00cpu", b"X" + len(device).to_bytes(4, "little") + device
                    )
                write.writestr(name, content)
        gives(moved, state)


@situation(
    "a model that was quantized before it was saved", "refused: give the float model", reported="pytorch/vision#2562"
)
def test_quantized(state, path, refused):
    key = "features.0.0.weight"
    torch.save(state | {key: torch.quantize_per_tensor(state[key], 0.1, 0, torch.qint8)}, path)
    refused(path, key, "float")
    scales = {"quant.scale": torch.ones(1), "quant.zero_point": torch.zeros(1, dtype=torch.int64)}
    torch.save(state | scales, path)
    refused(path, "quant.scale")


@situation(
    "another number of classes",
    "refused: both numbers, and that the last layer can be trained anew",
    reported="Helias/Car-Model-Recognition#2",
)
def test_another_number_of_classes(state, path, refused):
    key = "classifier.1.weight"
    shape = (1000, state[key].shape[1])
    torch.save(state | {key: torch.rand(shape), "classifier.1.bias": torch.rand(1000)}, path)
    refused(path, key, re.escape(str(shape)), re.escape(str(tuple(state[key].shape))), "1000 classes")


class _Detector(nn.Module):
    """Boxes and scores of each cell in one layer, at two strides."""

    def __init__(self, classes):
        super().__init__()
        self.body = nn.Sequential(*(nn.Conv2d(3 if n == 0 else 8, 8, 3) for n in range(4)))
        self.heads = nn.ModuleList(nn.Conv2d(8, 4 + classes, 1) for _ in range(2))


@situation(
    "the same, of a network that a function of the user's makes, with several heads",
    "refused: both numbers and the names, and what can be done",
)
def test_another_number_of_classes_of_a_users_network(tmp_path):
    names = ["cat", "dog", "bird", "whale"]
    torch.save(_Detector(3).state_dict(), tmp_path / "w.pth")
    asked = Asked(names=names, given_by="factory")
    told = r"The checkpoint has 3 classes, and the data 4: 'cat', 'dog', 'bird', 'whale': use data with as many, .*data\.labels.*head = \"train\""
    with pytest.raises(WeightsError, match=told):
        load_into(_Detector(4), tmp_path / "w.pth", asked=asked)
    last = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 3))
    torch.save(last.state_dict(), tmp_path / "w.pth")
    last[2] = nn.Linear(8, 4)
    with pytest.raises(
        WeightsError,
        match=r"3 classes, and the data 4: .* train the last layer on the data: \[weights\] head = \"train\"",
    ):
        load_into(last, tmp_path / "w.pth", asked=asked)
    last[0] = nn.Conv2d(3, 9, 3)
    with pytest.raises(WeightsError, match=r"another variant of the network: set \[model\.arguments\]"):
        load_into(last, tmp_path / "w.pth", asked=asked)


@situation("1000 classes and photos without labels", "the file says how many classes there are, and loads")
def test_a_checkpoint_says_how_many_classes_it_has(state, path):
    torch.save(prefixed(state | {"classifier.1.weight": torch.rand(1000, 1280)}, "module."), path)
    assert outputs_in(path) == 1000


@situation(
    "adapters that were not merged (`lora_A`, `lora_B`)",
    "refused, a name of them told",
    reported="verl-project/verl#4704",
)
def test_adapters(state, path, refused):
    lora = {
        "classifier.1.lora_A.default.weight": torch.rand(4, 1280),
        "classifier.1.lora_B.default.weight": torch.rand(10, 4),
    }
    torch.save(prefixed(state | lora, "base_model.model."), path)
    refused(path, "lora_")


# several files


def shards(state, folder, stem, write):
    """Written in two parts with an index, as Hugging Face's libraries do."""
    folder.mkdir()
    keys = sorted(state)
    parts = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    suffix = stem.partition(".")[2]
    names = [f"{stem.partition('.')[0]}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    for name, part in zip(names, parts, strict=True):
        write({key: state[key] for key in part}, folder / name)
    where = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    index = folder / f"{stem}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return index, [folder / name for name in names]


@situation(
    "parts with an index: `pytorch_model.bin.index.json`, `model.safetensors.index.json`, or the folder of them",
    "loads all parts",
    reported="huggingface/diffusers#14811",
)
def test_parts_with_an_index(state, tmp_path, gives):
    for number, (stem, write) in enumerate({"pytorch_model.bin": torch.save, "model.safetensors": save_file}.items()):
        index, _ = shards(state, tmp_path / str(number), stem, write)
        for given in (index, index.parent):
            gives(locate(Weights(path=str(given)), tmp_path)[0], state)


@situation("one of the parts is missing", "refused, the part named", reported="sgl-project/sglang#32279")
def test_a_part_is_missing(state, tmp_path, network):
    index, parts = shards(state, tmp_path / "parts", "model.safetensors", save_file)
    parts[1].unlink()
    with pytest.raises(WeightsError, match=re.escape(parts[1].name)):
        load_into(network(3), index)


@situation("torch's older format, no zip archive", "loads", reported="open-mmlab/mmpretrain#74")
def test_the_older_format(state, path, gives):
    torch.save({"meta": {"epoch": 100}, "state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(path)
    gives(path, state)
