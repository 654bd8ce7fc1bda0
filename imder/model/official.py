"""The authors' tensor names (mdswyz/IMDer) as names of ours, so that their weight files can be used."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from imder.modality import MODALITIES
from imder.model.config import ModelConfig
from imder.model.imder import IMDer

LETTERS = {"l": "text", "a": "audio", "v": "vision"}

_LAYER = {
    "self_attn.out_proj": "out",
    "fc1": "expand",
    "fc2": "contract",
    "layer_norms.0": "norm",
    "layer_norms.1": "ff_norm",
}
_RCAB = {
    "body.0": "first",
    "body.2": "second",
    "body.3.conv_du.0": "attention.gate.0",
    "body.3.conv_du.2": "attention.gate.2",
}
_SCORE = {"embed.0.W": "embedding.frequency"}
for _i in range(4):
    _down, _up, _n = f"down.{_i}", f"up.{3 - _i}", _i + 1
    _SCORE |= {f"conv{_n}": f"{_down}.conv", f"conv{_n}_cond": f"{_down}.condition_conv"}
    _SCORE |= {f"tconv{_n}": f"{_up}.conv", f"tconv{_n}_cond": f"{_up}.condition_conv"}
    _SCORE |= {f"gnorm{_n}": f"{_down}.norm", f"tgnorm{_n}": f"{_up}.norm", f"dense{_n}.dense": f"{_down}.time"}
_SCORE |= {f"dense{5 + i}.dense": f"up.{i}.time" for i in range(3)}
_SCORE |= {"embed.1": "embedding.linear"}


def _encoder(rest: str) -> str:
    """A name inside a transformer encoder."""
    if match := re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", rest):
        number, part, kind = match.groups()
        return f"layers.{number}.{_LAYER[part]}.{kind}"
    return rest.replace("layer_norm.", "norm.")


def translate(name: str) -> str:
    """Our name of one of the authors' tensors; `convert` splits the joint projections. KeyError if there is none."""
    if match := re.fullmatch(r"score_([lav])\.(.+)", name):
        prefix, rest = f"scores.{LETTERS[match[1]]}.", match[2]
        if attention := re.fullmatch(r"attention_(t?)(\d)\.(.+)", rest):
            level = f"up.{4 - int(attention[2])}" if attention[1] else f"down.{int(attention[2]) - 1}"
            return f"{prefix}{level}.attention.{_encoder(attention[3])}"
        if rest in _SCORE:
            return prefix + _SCORE[rest]
        part, kind = rest.rsplit(".", 1)
        return f"{prefix}{_SCORE[part]}.{kind}"
    if match := re.fullmatch(r"rec_([lav])\.(\d)\.(.+)", name):
        prefix, rest = f"reconstructors.{LETTERS[match[1]]}.", match[3]
        if match[2] != "1":
            return f"{prefix}{'head' if match[2] == '0' else 'tail'}.{rest}"
        if block := re.fullmatch(r"body\.(\d+)\.(body\..+)\.(weight|bias)", rest):
            return f"{prefix}blocks.{block[1]}.{_RCAB[block[2]]}.{block[3]}"
        return f"{prefix}body_end.{rest.rsplit('.', 1)[1]}"
    if match := re.fullmatch(r"proj_([lav])\.weight", name):
        return f"encoders.{LETTERS[match[1]]}.weight"
    if match := re.fullmatch(r"cat_([lav])([lav])\.(weight|bias)", name):
        return f"pairs.{LETTERS[match[1]]}_{LETTERS[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"trans_([lav])_with_([lav])\.(.+)", name):
        return f"fusion.cross.{LETTERS[match[1]]}_with_{LETTERS[match[2]]}.{_encoder(match[3])}"
    if match := re.fullmatch(r"trans_([lav])_mem\.(.+)", name):
        return f"fusion.memory.{LETTERS[match[1]]}.{_encoder(match[2])}"
    if match := re.fullmatch(r"(proj1|proj2|out_layer)\.(weight|bias)", name):
        return f"fusion.{ {'proj1': 'first', 'proj2': 'second', 'out_layer': 'out'}[match[1]] }.{match[2]}"
    raise KeyError(name)


def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state dict as ours, float32. Raises ValueError naming a tensor that has no place here."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith((".version", "._float_tensor")) or name.startswith("text_model."):
            continue  # bookkeeping of the attention code; BERT is not part of the model
        tensor = tensor.float()
        try:
            if match := re.fullmatch(r"(.+layers\.\d+)\.self_attn\.in_proj_(weight|bias)", name):
                base = translate(f"{match[1]}.fc1.{match[2]}").rsplit(".", 2)[0]
                query, key, value = tensor.chunk(3)
                out[f"{base}.query.{match[2]}"] = query
                out[f"{base}.key_value.{match[2]}"] = torch.cat([key, value])
            else:
                out[translate(name)] = tensor
        except KeyError:
            raise ValueError(f"tensor {name!r} does not belong to the published IMDer") from None
    return out


def _count(names: dict[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def load_official(tensors: dict[str, Tensor]) -> IMDer:
    """An IMDer in the preset `official` with the authors' weights; sizes are read from the tensors."""
    for letter in LETTERS:
        if f"proj_{letter}.weight" not in tensors:
            raise ValueError(f"tensor 'proj_{letter}.weight' is missing; this is no weight file of the published IMDer")
    config = ModelConfig.from_preset(
        "official",
        {LETTERS[letter]: tensors[f"proj_{letter}.weight"].shape[1] for letter in LETTERS},
        fusion_layers=_count(tensors, r"trans_l_with_a\.layers\.(\d+)\."),
        condition_layers=_count(tensors, r"score_l\.attention_1\.layers\.(\d+)\."),
        reconstruction_blocks=_count(tensors, r"rec_l\.1\.body\.(\d+)\.body\."),
    )
    model = IMDer(config)
    given = convert(tensors)
    own = model.state_dict()
    needed = {n for n in own if not n.startswith(("readouts.", "latent_"))}
    if absent := sorted(needed - set(given)):
        raise ValueError(f"the weight file lacks {len(absent)} tensors, the first is our {absent[0]!r}")
    for name, tensor in given.items():
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "no such tensor"
            raise ValueError(f"our {name!r}: the file has shape {tuple(tensor.shape)}, expected {expected}")
    model.load_state_dict(own | given, strict=True)
    return model.eval()


assert set(LETTERS.values()) == set(MODALITIES)
