"""`python -m imder golden WEIGHTS IO`: is our `official` model equal to the published code?"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from imder.modality import MODALITIES
from imder.model.imder import PAIRS, IMDer
from imder.model.official import load_official
from imder.samplers import euler_maruyama, linear_grid
from imder.trajectory import Estimate, final

TOLERANCE = 1e-4


def _noises(stack: Tensor):
    """A noise function that hands out the rows of (N, B, D, L) one after the other."""
    rows = iter(stack.float())
    return lambda: next(rows)


@torch.no_grad()
def outputs(model: IMDer, io: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every entry that golden/README.md lists, computed by `model` from the inputs in `io`."""
    out: dict[str, Tensor] = {}
    latents = model.encode({k: io[f"in.{k}"] for k in MODALITIES})
    x, t, cond = io["score.x"], io["score.t"], io["score.cond"]
    for k in MODALITIES:
        out[f"encode.{k}"] = latents[k]
        out[f"score.{k}.conditional"] = model.published_score(k, x, t, cond)
        out[f"score.{k}.unconditional"] = model.published_score(k, x, t, None)
        out[f"reconstruct.{k}"] = model.reconstruct(k, x)
    for a, b in PAIRS:
        out[f"fuse_condition.{a}_{b}"] = model.pairs[f"{a}_{b}"](torch.cat([latents[a], latents[b]], dim=1))
    out["prediction.complete"] = model.predict(latents)[:, None]

    z, sde = io["loss.z"], model.sde
    std = sde.marginal_std(t)[:, None, None]
    score = model.published_score("vision", sde.perturb(latents["vision"], t, z), t, sde.perturb(latents["text"], t, z))
    out["loss.vision_given_text.shared_noise"] = ((score * std + z) ** 2).sum(dim=(1, 2)).mean()[None]

    noise_cond = _noises(io["em20.noise_cond"])

    def estimate(x: Tensor, at: float) -> Estimate:
        time = torch.full((len(x),), at)
        noised = sde.perturb(latents["text"], time, noise_cond())
        score = model.published_score("vision", x, time, noised)
        return Estimate(score, x + sde.marginal_std(time)[:, None, None] ** 2 * score)

    grid = linear_grid(sde, len(io["em20.noise_x"]))
    path = euler_maruyama(estimate, sde, io["em20.x1"], grid, _noises(io["em20.noise_x"]), tweedie=False)
    out["em20.vision_given_text"] = final(path).x
    return out


def differences(weights: Path, io: Path) -> dict[str, float]:
    """Largest absolute difference of every entry; raises ValueError for a file that cannot be used.

    The published loss is a sum over channels and frames, thousands in float32 (spacing 5e-4): compared an element.
    """
    loaded = []
    for path in (weights, io):
        if not path.is_file():
            raise ValueError(f"{path} is not a file; a safetensors file is needed")
        try:
            loaded.append(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is not a readable safetensors file: {error}") from None
    model, arrays = load_official(loaded[0]), loaded[1]
    try:
        computed = outputs(model, arrays)
    except KeyError as error:
        raise ValueError(f"{io} lacks the array {error}") from None
    except RuntimeError as error:
        raise ValueError(
            f"the arrays of {io} do not fit the weights of {weights}: {str(error).splitlines()[0]}"
        ) from None
    result = {}
    for name, value in computed.items():
        if name not in arrays:
            raise ValueError(f"{io} lacks the array {name!r}")
        if arrays[name].shape != value.shape:
            raise ValueError(f"{io}: {name!r} has shape {tuple(arrays[name].shape)}, computed {tuple(value.shape)}")
        gap = (value - arrays[name]).abs().max().item()
        if name.startswith("loss."):
            gap /= arrays["loss.z"][0].numel()
        result[name] = gap if gap == gap else float("inf")
    return result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("weights", type=Path, help="the authors' state dict, safetensors")
    parser.add_argument("io", type=Path, help="inputs and outputs of the published code, safetensors")


def main(args: argparse.Namespace) -> int:
    """Prints the largest absolute difference a part and over all; 1 where it is above 1e-4."""
    parts: dict[str, float] = {}
    for name, gap in differences(args.weights, args.io).items():
        print(f"{name:42s} {gap:.3e}")
        part = name.split(".")[0]
        parts[part] = max(parts.get(part, 0.0), gap)
    print()
    for part, gap in parts.items():
        print(f"{part:42s} {gap:.3e}")
    worst = max(parts.values())
    print(f"largest absolute difference {worst:.3e}")
    return 0 if worst <= TOLERANCE else 1
