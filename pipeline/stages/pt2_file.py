"""The archive of a saved `torch.export` program: looked at before anything in it is used, and nothing in it is ever run.

torch's own reader unpickles the example inputs, evaluates expressions of shapes as Python, compiles guards, and looks
operators up by any name. Here JSON and raw numbers are read, and nothing else: pickles stay closed.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..files import digest
from ..reading import MAX_CHECKPOINT_BYTES, MAX_JSON_BYTES, parse_json, plain_size, shown

MAX_MEMBERS = 100_000

_MODEL, _WEIGHTS, _CONSTANTS = (
    "models/model.json",
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
_KNOWN = re.compile(
    r"models/model\.json|data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt)|archive_format|archive_version|byteorder|version|\.data/\w+|\.format_version"
    r"|\.storage_alignment|extra/[\w./-]+"
)
_PICKLES = re.compile(r"data/(constants/(custom_obj|opaque_obj)_\d+|(weights|constants)/\w+\.pt)")
_FLOAT = 7
"""torch's number of float32 in these files."""
_SCHEMA = 8
"""Of the JSON, since torch 2.5; another one may mean something else by the same words."""


@dataclass(frozen=True, kw_only=True)
class Pt2:
    """What a file says of its program.

    Attributes:
        graph: the program's ``graph_module`` as JSON has it; checked as far as `shape` and `outputs` go.
        weights: by path, where its bytes are and how they are a tensor, as JSON has it.
        constants: the same, of tensors that are no parameters and no buffers.
        root: the folder inside the archive.
    """

    path: Path
    graph: Mapping[str, Any]
    weights: Mapping[str, Any]
    constants: Mapping[str, Any]
    root: str

    @property
    def shape(self) -> tuple[int | None, int, int, int]:
        """Images at a time (None for any number), channels, height and width of the input."""
        return _input_of(self.graph, self.path)

    @property
    def outputs(self) -> int:
        """How many the program has for an image: the first output's axis behind the images'."""
        name = self.output_names[0]
        return int(self.graph["graph"]["tensor_values"][name]["sizes"][:2][-1]["as_int"])

    @property
    def output_names(self) -> list[str]:
        """The names inside the program of the tensors that it gives."""
        return [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in self.graph["signature"]["output_specs"]]

    @property
    def output_keys(self) -> list[str]:
        """What the model calls them: the keys of the dictionary that it gives; none of another form."""
        calls = self.graph.get("module_call_graph") or [{}]
        told = (calls[0].get("signature") or {}).get("out_spec") or "[]"
        version_and_spec = parse_json(told.encode())
        spec = version_and_spec[1] if len(version_and_spec) == 2 else {}
        if spec.get("type") not in ("builtins.dict", "collections.OrderedDict"):
            return []
        keys = parse_json(spec["context"].encode())
        is_flat = all(child.get("type") is None for child in spec["children_spec"])
        are_names = is_flat and isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        return keys if are_names and len(keys) == len(self.output_names) else []

    @property
    def tensors(self) -> list[tuple[int, ...]]:
        """Shapes of what it takes beside the image, without the batch."""
        return [_tensor_of(self.graph, spec, self.path) for spec in _given(self.graph)[1:]]


def sha256(path: Path) -> str:
    """Of the file; a WeightsError where there is none."""
    if not path.is_file():
        raise WeightsError(f"model.exported '{path}' is no file. Give what torch.export.save wrote, a .pt2.")
    return digest(path)


def read(path: Path) -> Pt2:
    """Look into a file.

    Raises:
        WeightsError: it is no such archive, is damaged, holds what would have to be unpickled or compiled, or a program of
            another kind than an image's ``(1, 1 or 3, H, W)`` float32, and tensors, to tensors.
    """
    try:
        if (size := plain_size(path)) > MAX_CHECKPOINT_BYTES:
            raise WeightsError(f"'{path}' has {size:,} bytes; at most {MAX_CHECKPOINT_BYTES:,} are read")
        with zipfile.ZipFile(path) as archive:
            root = _root(archive, path, size)
            _check_format(archive, root, path)
            content = {name: _json(archive, f"{root}/{name}", path) for name in (_MODEL, _WEIGHTS, _CONSTANTS)}
        if (schema := content[_MODEL]["schema_version"]["major"]) != _SCHEMA:
            raise WeightsError(
                f"'{path}' is of schema {shown(schema, 20)}; {_SCHEMA} is known. Export it with torch 2.8 to 2.13."
            )
        found = Pt2(
            path=path,
            graph=content[_MODEL]["graph_module"],
            weights=content[_WEIGHTS]["config"],
            constants=content[_CONSTANTS]["config"],
            root=root,
        )
        _check_signature(found)
        _ = found.shape, found.outputs, found.tensors, found.output_keys
    except WeightsError:
        raise
    except Exception as error:  # a damaged archive, or JSON of another form: of many types
        raise WeightsError(
            f"cannot read the exported program '{path}': {type(error).__name__}: {shown(error, 300)}. Is it what "
            "torch.export.save wrote, and was it copied whole?"
        ) from error
    return found


def _root(archive: zipfile.ZipFile, path: Path, size: int) -> str:
    """The one folder that all members are in, every one of which is known, stored plainly and inside the file's size."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(members) > MAX_MEMBERS:
        raise WeightsError(f"'{path}' has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
    unpacked = sum(member.file_size for member in members)
    if unpacked > size or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(
            f"'{path}' has {size:,} bytes and would unpack to {unpacked:,}; torch stores without compression: the file is "
            "damaged, or made to fill the memory. Save the program with torch.export.save."
        )
    if "serialized_exported_program.json" in names:
        raise WeightsError(f"'{path}' was saved by torch 2.7 or before. Save it with a later one: torch.export.save.")
    roots = {name.partition("/")[0] for name in names}
    if len(set(names)) != len(names) or len(roots) != 1:
        raise WeightsError(f"'{path}' is no archive of torch.export.save: its members lie in {len(roots)} folders")
    (root,) = roots
    for name in names:
        inner = name.removeprefix(f"{root}/")
        if _PICKLES.fullmatch(inner):
            raise WeightsError(
                f"'{path}' holds '{shown(inner)}', which would have to be unpickled, and that could run code from it. A "
                "program whose weights and constants are plain tensors has none: export the model without custom objects."
            )
        if not _KNOWN.fullmatch(inner) or ".." in inner.split("/"):
            raise WeightsError(f"'{path}' holds '{shown(name)}', which is no part of one exported program")
    return root


def _check_format(archive: zipfile.ZipFile, root: str, path: Path) -> None:
    for name, wanted in (("archive_format", b"pt2"), ("byteorder", b"little")):
        with archive.open(f"{root}/{name}") as stream:
            found = stream.read(20)
        if found != wanted:
            raise WeightsError(f"'{path}': its {name} is {found!r}, not {wanted!r}. Save it with torch.export.save.")


def _json(archive: zipfile.ZipFile, name: str, path: Path) -> Any:
    if (size := archive.getinfo(name).file_size) > MAX_JSON_BYTES:
        raise WeightsError(f"'{path}': '{shown(name)}' has {size:,} bytes; at most {MAX_JSON_BYTES:,} are read")
    return parse_json(archive.read(name))


def _check_signature(found: Pt2) -> None:
    """Tensors in, tensors out, and nothing that the program changes."""
    signature = found.graph["signature"]
    inputs = [next(iter(spec)) for spec in signature["input_specs"]]
    outputs = [next(iter(spec)) for spec in signature["output_specs"]]
    if "buffer_mutation" in outputs:
        raise WeightsError(
            f"'{found.path}' was exported in training mode: it changes its own buffers. Export model.eval()."
        )
    others = sorted({*inputs} - {"user_input", "parameter", "buffer", "tensor_constant"})
    if others or not inputs.count("user_input") or not outputs or {*outputs} != {"user_output"}:
        raise WeightsError(
            f"'{found.path}' takes {inputs.count('user_input')} inputs{f' and {shown(others[0])}' if others else ''} and gives "
            f"{len(outputs)} outputs; an image and tensors in, and tensors out, are known. Export a module that has a forward like "
            "that."
        )


def _given(graph: Mapping[str, Any]) -> list[Any]:
    return [spec for spec in graph["signature"]["input_specs"] if "user_input" in spec]


def _tensor_of(graph: Mapping[str, Any], spec: Any, path: Path) -> tuple[int, ...]:
    meta = graph["graph"]["tensor_values"][spec["user_input"]["arg"]["as_tensor"]["name"]]
    sizes = [size.get("as_int") for size in meta["sizes"]]
    known = all(isinstance(size, int) and 0 < size < 10**5 for size in sizes[1:])
    if not sizes or sizes[0] not in (None, 1) or not known or meta["dtype"] != _FLOAT:
        shape = ", ".join("?" if size is None else shown(size, 20) for size in sizes[:8])
        raise WeightsError(
            f"'{path}' takes ({shape}) of type {shown(meta['dtype'], 20)} beside the image; float32 (1, ...) of one size is known"
        )
    return tuple(sizes[1:])


def _input_of(graph: Mapping[str, Any], path: Path) -> tuple[int | None, int, int, int]:
    spec = _given(graph)[0]
    meta = graph["graph"]["tensor_values"][spec["user_input"]["arg"]["as_tensor"]["name"]]
    sizes = [size.get("as_int") for size in meta["sizes"]]
    is_image = len(sizes) == 4 and sizes[1] in (1, 3) and sizes[0] in (None, 1) and meta["dtype"] == _FLOAT
    if not is_image or not all(isinstance(size, int) and 0 < size < 10**5 for size in sizes[1:]):
        shape = ", ".join("?" if size is None else shown(size, 20) for size in sizes[:8])
        raise WeightsError(
            f"'{path}' takes ({shape}) of type {shown(meta['dtype'], 20)}; one float32 image (1, 3, H, W) is known, or (1, 1, H, W), or "
            "any number of them of one size. Export it with such an example."
        )
    return sizes[0], sizes[1], sizes[2], sizes[3]
