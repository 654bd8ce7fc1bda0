"""`python -m imder convert-official WEIGHTS.pth --out RUN`: a run from a weight file of the authors' code."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from imder import hub
from imder.data.clip import collate
from imder.data.dataset import FeatureSet
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES, names_of
from imder.model import IMDer
from imder.model.official import load_official
from imder.training.stages import fit_readout, moments

MAX_BYTES = 4 << 30
#: What stands before the tensors' names: the authors' wrapper class, and torch's for several GPUs.
_PREFIXES = ("Model.", "module.", "model.")
#: Where a checkpoint of more than weights keeps them.
_KEPT = ("state_dict", "model_state_dict", "model")
_BERT = ("text_model.", "bertmodel.", "bert.")


def convert_official(
    weights: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    data: FeatureSet | None = None,
    label_range: tuple[float, float] = (-3.0, 3.0),
    command: str = "",
) -> list[str]:
    """Writes the run folder `out` from the authors' weights; returns sentences on what was found and assumed.

    The authors' code feeds features as they are, so the run's standardiser changes nothing. What their file lacks, the
    readouts that turn latents back into features and the latents' statistics, is fitted on the training clips of
    `data`, or as for features of white noise without it. Raises ValueError of one sentence.
    """
    weights = Path(weights)
    tensors = read_weights(weights)
    bert = [n for n in tensors if n.startswith(_BERT)]
    model = load_official({n: x for n, x in tensors.items() if n not in set(bert)})
    said = [f"{len(tensors) - len(bert)} tensors were read, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M"]
    if bert:
        said.append(
            f"{len(bert)} tensors of its BERT are no part of the run: if it was tuned, language features must come "
            "from it"
        )
    dims = model.config.feature_dims
    if data is None:
        said.append("no data given: readouts and latent statistics are those for features of white noise")
        white(model)
        names = {k: [f"{k}_{i}" for i in range(dims[k])] for k in MODALITIES}
        about: dict[str, Any] = {"name": name or "official", "title": name or "the authors' data", "fingerprint": ""}
        about |= {"synthetic": False, "label_range": list(label_range), "feature_names": names}
    else:
        _fit(model, data)
        about = {"name": data.name, "title": data.title, "fingerprint": data.fingerprint, "synthetic": data.synthetic}
        about |= {"label_name": data.label_name, "label_range": list(data.label_range)}
        about |= {"feature_names": {k: list(names) for k, names in data.feature_names.items()}}
    standardiser = Standardiser(
        {k: np.zeros(dims[k], np.float32) for k in MODALITIES}, {k: np.ones(dims[k], np.float32) for k in MODALITIES}
    )
    with weights.open("rb") as file:
        seal = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    training = {
        "config": {},
        "command": command,
        "weights": seal,
        "origin": "published code of IMDer",
        "bert": bool(bert),
    }
    card = "\n".join(
        [f"Converted from `{weights.name}` (sha256 {seal}...), a weight file of the authors' code.", ""]
        + [f"- {sentence}" for sentence in said]
    )
    hub.save_run(out, model, standardiser, about, training, card=card)
    return said


# -- the file ---------------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or safetensors file without prefixes; nothing in it is run (`weights_only`)."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; a weight file (.pth, .pt or .safetensors) is needed")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: has {size} bytes; at most {MAX_BYTES} are read")
    if path.suffix == ".safetensors":
        try:
            tree: Any = load_file(path)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: not a whole safetensors file ({_first_line(error)})") from None
    else:
        try:
            tree = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"(?:GLOBAL|Unsupported global:?|class) ([\w.]+)", str(error))
            what = f"names {named[1]}" if named else "holds more than tensors"
            raise ValueError(f"{path}: {what}; a weight file of tensors alone is read, and nothing was run") from None
        except Exception as error:  # a damaged zip or pickle raises of many kinds
            raise ValueError(f"{path}: not a whole weight file ({_first_line(error)})") from None
    return _tensors(tree, path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _tensors(tree: Any, path: Path) -> dict[str, Tensor]:
    for key in _KEPT:
        if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping):
            tree = tree[key]
    if not isinstance(tree, Mapping) or not tree:
        raise ValueError(f"{path}: holds a {type(tree).__name__}; a dict of tensors is needed")
    found: dict[str, Tensor] = {}
    for name, tensor in tree.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path}: {str(name)[:80]!r} is a {type(tensor).__name__}; a dict of tensors is needed")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise ValueError(f"{path}: {name[:80]!r} is no plain tensor")
        while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
            name = name.removeprefix(prefix)
        if name in found:
            raise ValueError(f"{path}: {name[:80]!r} is there twice, with and without a prefix")
        found[name] = tensor.detach()
    return found


# -- what the file lacks ----------------------------------------------------------------------------------------------


@torch.no_grad()
def white(model: IMDer) -> None:
    """Readouts and statistics as if features were white noise of variance 1: the best linear inverse of E_k alone.

    x_t is estimated from z_(t-2) to z_t, z_s = sum_j W_j x_(s+j): R = Cov(x, z) Cov(z, z)^-1, with a small ridge.
    """
    statistics = {}
    for k in MODALITIES:
        w = model.encoders[k].weight.double()  # (D, F, 3)
        size = w.shape[0]
        gram = w.new_zeros(3, size, 3, size)  # taps j, j': z_(t-j), z_(t-j')
        for a in range(3):
            for b in range(3):
                for j in range(3):
                    if 0 <= (i := j + a - b) < 3:
                        gram[a, :, b] += w[:, :, i] @ w[:, :, j].T
        gram = gram.reshape(3 * size, 3 * size)
        gram = gram + 1e-6 * gram.diagonal().mean() * torch.eye(3 * size, dtype=w.dtype)
        cross = w.permute(2, 0, 1).reshape(3 * size, -1)  # Cov(z_(t-j), x_t) = W_j
        solved = torch.linalg.solve(gram, cross).float()  # (3 D, F)
        model.readouts[k].weight.copy_(solved.view(3, size, -1).permute(1, 2, 0))
        model.readouts[k].bias.zero_()
        statistics[k] = (torch.zeros(size), w.square().sum(dim=(1, 2)).sqrt().float())
    model.set_latent_statistics(statistics)


@torch.no_grad()
def _fit(model: IMDer, data: FeatureSet) -> None:
    """Readouts and statistics on the training clips."""
    dims = model.config.feature_dims
    if wrong := [k for k in MODALITIES if data.feature_dims[k] != dims[k]]:
        k = wrong[0]
        raise ValueError(f"data: {data.name!r} has {k} of width {data.feature_dims[k]}; the weights read {dims[k]}")
    if "train" not in data.splits:
        raise ValueError(f"data: {data.name!r} has no split 'train'; readouts are fitted on it")
    if data.lacks:
        raise ValueError(f"data: {data.name!r} has no {names_of(data.lacks)}; the authors' weights are of all three")
    batch = collate(data.complete("train"))
    latents = model.encode(batch.features)
    valid = model.latent_valid(batch.valid)
    for k in MODALITIES:
        fit_readout(model.readouts[k], latents[k], batch.features[k], valid, batch.valid)
    model.set_latent_statistics({k: moments(z, valid) for k, z in latents.items()})


# -- the verb ---------------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("weights", type=Path, metavar="WEIGHTS.pth", help="the authors' state dict (or safetensors)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run folder to write")
    parser.add_argument("--data", metavar="DIR", help="the data set they were trained on: fits readouts, gives names")
    parser.add_argument("--name", help="the name of their data, where --data is not given")
    parser.add_argument(
        "--label-range", type=float, nargs=2, default=(-3.0, 3.0), metavar=("LOW", "HIGH"), help="default: -3 3"
    )


def main(args: argparse.Namespace) -> int:
    """Converts and says what was found."""
    data = FeatureSet.open(args.data) if args.data else None
    low, high = args.label_range
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"label-range: {low:g} {high:g} is not allowed; two numbers, the smaller first, are")
    command = f"python -m imder convert-official {args.weights.name} --out {args.out.name}"
    said = convert_official(args.weights, args.out, name=args.name, data=data, label_range=(low, high), command=command)
    for sentence in said:
        print(f"- {sentence}")
    print(f"{args.out}: complete; `python app.py --run {args.out}` opens it")
    return 0
