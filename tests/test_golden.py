"""Equality with the published code, and what the converter refuses."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from imder.__main__ import main
from imder.modality import MODALITIES
from imder.model import IMDer, ModelConfig
from imder.model.official import convert, load_official


@pytest.fixture
def pair(shared):
    return shared / "golden/official_mosi_weights.safetensors", shared / "golden/official_mosi_io.safetensors"


def test_every_golden_array_is_reproduced(pair, capsys):
    assert main(["golden", *map(str, pair)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert float(lines[-1].split()[-1]) <= 1e-4
    listed = {
        name
        for name in load_file(pair[1])
        if name.split(".")[0] in ("encode", "reconstruct", "fuse_condition", "prediction")
    }
    listed |= {f"score.{k}.{c}" for k in MODALITIES for c in ("conditional", "unconditional")}
    listed |= {"loss.vision_given_text.shared_noise", "em20.vision_given_text"}
    assert listed <= {line.split()[0] for line in lines if line}


def test_a_changed_weight_is_noticed(pair, tmp_path, capsys):
    weights = load_file(pair[0])
    weights["score_v.conv3.weight"] = weights["score_v.conv3.weight"] * 1.01
    save_file(weights, tmp_path / "w.safetensors")
    assert main(["golden", str(tmp_path / "w.safetensors"), str(pair[1])]) == 1
    assert float(capsys.readouterr().out.strip().splitlines()[-1].split()[-1]) > 1e-4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("score_l.conv2.weight"), "lacks 1 tensors"),
        (lambda w: w.update({"extra.weight": torch.ones(1)}), "'extra.weight' does not belong"),
        (lambda w: w.update({"proj2.bias": torch.ones(3)}), r"shape \(3,\), expected \(192,\)"),
        (lambda w: w.pop("proj_a.weight"), "'proj_a.weight' is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(pair, change, said):
    weights = load_file(pair[0])
    change(weights)
    with pytest.raises(ValueError, match=said):
        load_official(weights)


def test_unusable_files_are_one_line(tmp_path, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00notjson!")
    for path in (broken, tmp_path / "absent.safetensors"):
        assert main(["golden", str(path), str(path)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(path) in said
        assert said.count("\n") == 1


def test_the_converter_covers_the_whole_model(shared):
    names = (shared / "design/official_state_dict.txt").read_text().splitlines()
    tensors = {}
    for line in names:
        name, shape = line.split(" ", 1)
        tensors[name] = torch.zeros([int(n) for n in shape.strip("[]").split(",") if n])
    sizes = {"text": 768, "audio": 5, "vision": 20}
    own = IMDer(ModelConfig.from_preset("official", sizes)).state_dict()
    given = convert(tensors)
    assert set(own) - set(given) == {n for n in own if n.startswith(("readouts.", "latent_"))}
    assert all(own[n].shape == t.shape for n, t in given.items())
