"""The authors' weight files as runs: every form of file, equality with their code, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from field_files import Sizes, mmsa, truth
from safetensors.torch import load_file, save_file
from torch import nn

from imder import hub
from imder.__main__ import main
from imder.data.convert import convert
from imder.modality import MODALITIES
from imder.model import IMDer, ModelConfig
from imder.model import official as names
from imder.model.golden import TOLERANCE, outputs
from imder.pipeline import RecoveryPipeline, RecoveryRequest
from imder.training.official import convert_official, read_weights, white
from imder.training.stages import fit_readout

DIMS = {"text": 9, "audio": 5, "vision": 4}
CANARY = Path("/tmp/imder-canary-official")


def encoder(name: str, layers: int) -> list[str]:
    """The published names of a transformer encoder."""
    parts = ["self_attn.out_proj", "fc1", "fc2", "layer_norms.0", "layer_norms.1"]
    found = [f"{name}.version", f"{name}.embed_positions._float_tensor"]
    for i in range(layers):
        found += [f"{name}.layers.{i}.self_attn.in_proj_{kind}" for kind in ("weight", "bias")]
        found += [f"{name}.layers.{i}.{part}.{kind}" for part in parts for kind in ("weight", "bias")]
    return [*found, f"{name}.layer_norm.weight", f"{name}.layer_norm.bias"]


def published_names(layers: int, condition: int, blocks: int) -> list[str]:
    """The names of the authors' state dict, as their modules are built."""
    found = []

    def both(*parts: str) -> None:
        found.extend(f"{part}.{kind}" for part in parts for kind in ("weight", "bias"))

    for m in "lav":
        found.append(f"proj_{m}.weight")
        score = f"score_{m}"
        found += [
            f"{score}.embed.0.W",
            *(f"{score}.{kind}{i}.weight" for kind in ("conv", "tconv") for i in range(1, 5)),
        ]
        found += [f"{score}.{kind}{i}_cond.weight" for kind in ("conv", "tconv") for i in range(1, 5)]
        found.remove(f"{score}.conv1_cond.weight")  # the first level's condition is the condition itself
        found += [f"{score}.tconv1.bias", f"{score}.tconv1_cond.bias"]
        both(f"{score}.embed.1", *(f"{score}.dense{i}.dense" for i in range(1, 8)))
        both(*(f"{score}.gnorm{i}" for i in range(1, 5)), *(f"{score}.tgnorm{i}" for i in range(2, 5)))
        for i in range(1, 5):
            found += encoder(f"{score}.attention_{i}", condition) + encoder(f"{score}.attention_t{i}", condition)
        rec = f"rec_{m}"
        both(f"{rec}.0", f"{rec}.1.body.{blocks}", f"{rec}.2")
        for b in range(blocks):
            own = f"{rec}.1.body.{b}.body"
            both(f"{own}.0", f"{own}.2", f"{own}.3.conv_du.0", f"{own}.3.conv_du.2")
        found += encoder(f"trans_{m}_mem", layers)
        for other in "lav".replace(m, ""):
            found += encoder(f"trans_{m}_with_{other}", layers)
    both("cat_la", "cat_lv", "cat_va", "proj1", "proj2", "out_layer")
    return found


@pytest.fixture(scope="module")
def published() -> tuple[dict[str, torch.Tensor], IMDer]:
    """A state dict in the published naming, and the model of ours that holds the same weights."""
    torch.manual_seed(0)
    layers, blocks = 1, 2
    config = ModelConfig.from_preset("official", DIMS, fusion_layers=layers, reconstruction_blocks=blocks)
    model = IMDer(config).eval()
    own, found = model.state_dict(), {}
    for name in published_names(layers, config.condition_layers, blocks):
        if name.endswith((".version", "._float_tensor")):
            found[name] = torch.ones(1)
        elif ".self_attn.in_proj_" in name:
            base, kind = name.split(".self_attn.in_proj_")
            ours = names.translate(f"{base}.fc1.{kind}").rsplit(".", 2)[0]
            found[name] = torch.cat([own[f"{ours}.query.{kind}"], own[f"{ours}.key_value.{kind}"]])
        else:
            found[name] = own[names.translate(name)].clone()
    return found, model


def test_the_generated_names_are_the_published_ones(shared):
    lines = (shared / "design/official_state_dict.txt").read_text().splitlines()
    assert sorted(published_names(4, 2, 20)) == sorted(line.split(" ")[0] for line in lines)


def equal(run: hub.Run, model: IMDer) -> None:
    """Every weight that the published code has."""
    theirs = model.state_dict()
    for name, x in run.model.state_dict().items():
        if not name.startswith(("readouts.", "latent_")):
            torch.testing.assert_close(x, theirs[name], rtol=0, atol=0)
    torch.manual_seed(1)
    features = {k: torch.randn(2, 50, width) for k, width in DIMS.items()}
    with torch.no_grad():
        one, other = (m.predict(m.encode(features)) for m in (run.model, model))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


BERT = {"text_model.model.embeddings.word_embeddings.weight": torch.ones(7, 3)}
FORMS = {
    "plain": lambda w: w,
    "the wrapper's prefix": lambda w: {f"Model.{name}": x for name, x in w.items()},
    "with BERT": lambda w: {f"Model.{name}": x for name, x in (BERT | w).items()},
    "of several GPUs": lambda w: {f"module.Model.{name}": x for name, x in w.items()},
    "a checkpoint": lambda w: {"epoch": 3, "state_dict": {f"Model.{name}": x for name, x in w.items()}},
    "double precision": lambda w: {name: x.double() for name, x in w.items()},
}


def same_tensors(have: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    assert {name for name in have if not name.startswith("text_model.")} == set(weights)
    for name, x in weights.items():
        torch.testing.assert_close(have[name].float(), x, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file_gives_the_same_tensors(tmp_path, published, form):
    weights, _ = published
    torch.save(FORMS[form](weights), tmp_path / "w.pth")
    same_tensors(read_weights(tmp_path / "w.pth"), weights)


def test_other_containers(tmp_path, published):
    weights, _ = published
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(weights, tmp_path / "w.safetensors")
    for file in ("old.pth", "w.safetensors"):
        same_tensors(read_weights(tmp_path / file), weights)


def test_a_weight_file_becomes_a_run(tmp_path, published, capsys):
    weights, model = published
    torch.save(FORMS["with BERT"](weights), tmp_path / "w.pth")
    assert main(["convert-official", str(tmp_path / "w.pth"), "--out", str(tmp_path / "run"), "--name", "MOSI"]) == 0
    assert "1 tensors of its BERT are no part of the run" in capsys.readouterr().out
    run = hub.load_run(tmp_path / "run")
    equal(run, model)
    assert run.model.config.preset == "official"
    assert run.info["data"]["title"] == "MOSI"
    assert all((run.standardiser.mean[k] == 0).all() and (run.standardiser.std[k] == 1).all() for k in MODALITIES)
    assert "a weight file of the authors' code" in (tmp_path / "run/README.md").read_text()


def test_a_run_of_the_golden_weights_gives_the_golden_arrays(shared, tmp_path):
    weights = load_file(shared / "golden/official_mosi_weights.safetensors")
    torch.save({f"Model.{name}": x for name, x in weights.items()}, tmp_path / "mosi.pth")
    convert_official(tmp_path / "mosi.pth", tmp_path / "run")
    run = RecoveryPipeline.from_pretrained(tmp_path / "run", data=None).run
    assert run.model.config == ModelConfig.from_preset("official", {"text": 768, "audio": 5, "vision": 20})
    io = load_file(shared / "golden/official_mosi_io.safetensors")
    computed = outputs(run.model, io)
    for name, x in computed.items():
        scale = io["loss.z"][0].numel() if name.startswith("loss.") else 1
        assert float((x - io[name]).abs().max()) / scale <= TOLERANCE, name


def test_readouts_without_data_are_the_best_linear_inverse():
    torch.manual_seed(0)
    model = IMDer(ModelConfig.from_preset("official", {"text": 40, "audio": 5, "vision": 20}, reconstruction_blocks=1))
    white(model)
    with torch.no_grad():
        for k, width in model.config.feature_dims.items():
            x = torch.randn(200, 40, width)
            z = model.encoders[k](x.transpose(1, 2))
            valid = torch.ones(200, 40, dtype=torch.bool)

            def error(readout, z=z, x=x):
                return float((readout(z).transpose(1, 2) - x)[:, 6:-6].square().mean())

            mine = error(model.readouts[k])
            fit_readout(model.readouts[k], z, x, model.latent_valid(valid), valid)
            assert mine <= 1.02 * error(model.readouts[k]) + 1e-4  # fitted on these very frames
            assert mine >= 1 - 32 / width - 0.02  # 32 numbers a frame carry 32 dimensions at most
            torch.testing.assert_close(model.unit(k, z).std(), torch.tensor(1.0), rtol=0.02, atol=0)


def test_with_data_readouts_are_fitted_and_a_recovery_runs(tmp_path, published, capsys):
    sizes = Sizes((60, 8, 8), (12, 9), (12, 5), (12, 4))
    torch.save(published[0], tmp_path / "w.pth")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(mmsa(sizes, truth(sizes))))
    data, _ = convert(tmp_path / "x.pkl", tmp_path / "set", title="Clips")
    words = [
        "convert-official",
        str(tmp_path / "w.pth"),
        "--out",
        str(tmp_path / "run"),
        "--data",
        str(tmp_path / "set"),
    ]
    assert main(words) == 0
    capsys.readouterr()
    pipeline = RecoveryPipeline.from_pretrained(tmp_path / "run", data=data)
    info = json.loads((tmp_path / "run/config.json").read_text())["data"]
    assert (info["fingerprint"], info["title"]) == (data.fingerprint, "Clips")
    clip = data.split("test")[0]
    with torch.no_grad():
        x = torch.from_numpy(clip.features["vision"])[None]
        read = pipeline.model.read("vision", pipeline.model.encode({"vision": x})["vision"])
    assert float((read - x).square().mean()) < 0.5 * float(x.var())
    found = pipeline(RecoveryRequest(clip, ("text",), steps=3, draws=2))
    assert found.sampler == "euler-maruyama"
    assert np.isfinite(found.draws).all()


# -- what is refused --------------------------------------------------------------------------------------------------


class Runs:
    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", b"no pickle")


def saved(change):
    def write(path: Path, weights: dict[str, torch.Tensor]) -> None:
        torch.save(change(dict(weights)), path)

    return write


REFUSED = {
    "a program": (saved(lambda w: w | {"x": Runs()}), "names|holds more than tensors"),
    "a module": (saved(lambda w: nn.Linear(2, 2)), "names|holds more than tensors"),
    "nothing": (lambda path, w: path.write_bytes(b""), "not a whole weight file"),
    "text": (lambda path, w: path.write_text("hello"), "not a whole weight file|more than tensors"),
    "cut": (lambda path, w: (torch.save(w, path), cut(path)), "not a whole weight file"),
    "another zip": (lambda path, w: zipped(path), "not a whole weight file"),
    "a list": (saved(lambda w: list(w.values())), "holds a list; a dict of tensors"),
    "numbers": (saved(lambda w: w | {"proj1.weight": 3}), "'proj1.weight' is a int; a dict of tensors"),
    "another model": (saved(lambda w: {"layer.weight": torch.ones(2)}), "'proj_l.weight' is missing"),
    "one absent": (saved(lambda w: {n: x for n, x in w.items() if n != "cat_la.bias"}), "lacks 1 tensors"),
    "one more": (saved(lambda w: w | {"extra.weight": torch.ones(1)}), "'extra.weight' does not belong"),
    "another shape": (saved(lambda w: w | {"proj2.bias": torch.ones(3)}), r"shape \(3,\), expected \(192,\)"),
    "not finite": (saved(lambda w: w | {"proj2.bias": w["proj2.bias"] * np.nan}), "not finite"),
    "twice": (saved(lambda w: w | {"Model.proj2.bias": w["proj2.bias"]}), "twice, with and without a prefix"),
    "sparse": (saved(lambda w: w | {"proj2.bias": torch.ones(192).to_sparse()}), "no plain tensor|not a whole"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_faulty_file_is_one_sentence_and_writes_nothing(tmp_path, published, capsys, name):
    write, message = REFUSED[name]
    write(tmp_path / "w.pth", published[0])
    CANARY.unlink(missing_ok=True)
    assert main(["convert-official", str(tmp_path / "w.pth"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert len(said) < 400
    assert re.search(message, said), said
    assert not CANARY.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


def test_other_sizes_and_ranges_are_refused(tmp_path, published, capsys):
    torch.save(published[0], tmp_path / "w.pth")
    words = ["convert-official", str(tmp_path / "w.pth"), "--out", str(tmp_path / "run")]
    assert main([*words, "--data", "bundled"]) == 2
    assert "has text of width 64; the weights read 9" in capsys.readouterr().err
    assert main([*words, "--label-range", "3", "-3"]) == 2
    assert main([*words, "--label-range", "nan", "1"]) == 2
    with pytest.raises(ValueError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    assert not (tmp_path / "run").exists()
