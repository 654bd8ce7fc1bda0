"""`python -m imder evaluate` end to end on a tiny random model: rows, going on, batches, tables, bad input."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from imder import hub
from imder.__main__ import main
from imder.baselines.fusion import FusionConfig, SubsetFusion
from imder.baselines.gcnet import GCNet, GCNetConfig
from imder.data.clip import Clip, collate
from imder.data.dataset import FeatureSet, write_feature_set
from imder.data.standardise import Standardiser
from imder.evaluation.evaluate import RecoveryStudy, encode_clips
from imder.evaluation.predictions import read_predictions
from imder.evaluation.rows import SCHEMA, MasksFile, open_rows, read_rows
from imder.evaluation.study import EvaluationConfig
from imder.modality import MODALITIES, PATTERNS
from imder.model import IMDer, ModelConfig
from imder.samplers import noise_seed

WIDTHS = {"text": 5, "audio": 4, "vision": 6}
ASKED = {
    "method", "available", "metric", "value", "n", "draws", "refined", "seed", "sampler", "steps", "protocol",
    "nominal_missing_rate", "realised_missing_rate", "run", "data", "split", "modality",
}  # fmt: skip


def make_clips(split: str, count: int, rng: np.random.Generator) -> list[Clip]:
    clips = []
    for i in range(count):
        frames = 14 if i % 3 else 10  # padding occurs
        trait, signal = rng.normal(size=(1, 4)), rng.normal(size=(frames, 4))
        features = {
            k: ((trait + signal) @ rng.normal(size=(4, width)) * 0.1 + rng.normal(size=(frames, width))).astype("f4")
            for k, width in WIDTHS.items()
        }
        label = float(np.clip(np.round(trait.sum()), -3, 3))
        clips.append(Clip(f"{split}{i // 4}$_${i}", f"{split}{i // 4}", i, "words", features, label))
    return clips


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data set and a run with random weights."""
    folder, rng = tmp_path_factory.mktemp("evaluate"), np.random.default_rng(0)
    splits = {"train": make_clips("a", 40, rng), "valid": make_clips("b", 12, rng), "test": make_clips("c", 15, rng)}
    label = {"name": "sentiment", "range": [-3, 3]}
    data = write_feature_set(folder / "data", splits, name="tiny", title="Tiny", label=label, synthetic=True)
    config = ModelConfig.from_preset(
        "corrected", WIDTHS, latent_channels=8, frames=12, channels=(8, 8, 8, 8), heads=2, embedding_dim=8,
        condition_layers=1, fusion_layers=1, reconstruction_channels=8, reconstruction_blocks=1, steps=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model, standardiser = IMDer(config), Standardiser.fit(splits["train"])
    raw = encode_clips(model, standardiser, splits["train"])
    values = {k: z.transpose(1, 2)[raw.valid] for k, z in raw.latents.items()}  # (sum L, D)
    model.set_latent_statistics({k: (x.mean(0), x.std(0)) for k, x in values.items()})
    unit = encode_clips(model, standardiser, splits["train"])
    model.fit_linear(unit.latents, unit.valid)
    info = {
        "name": data.name,
        "title": data.title,
        "synthetic": True,
        "label_range": list(data.label_range),
        "feature_names": {k: list(names) for k, names in data.feature_names.items()},
    }
    hub.save_run(folder / "run", model, standardiser, info, {"seed": 0})
    return folder


def evaluate(home, out, *flags, expect=0):
    args = ["evaluate", "--run", str(home / "run"), "--data", str(home / "data"), "--out", str(out)]
    args += [*([] if "--workers" in flags else ["--workers", "1"]), *map(str, flags)]
    assert main(args) == expect
    return read_rows(out, print) if out.is_file() and expect == 0 else []


@pytest.fixture(scope="module")
def fixed(home):
    """All methods on the fixed patterns, 1, 2 and 4 draws."""
    out = home / "fixed.jsonl"
    return evaluate(home, out, "--draws", 4, 2)


def pick(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_rows_of_the_fixed_protocol(fixed):
    assert all(list(row) == list(SCHEMA) for row in fixed)
    assert set(SCHEMA) >= ASKED
    for method, variants in (
        ("imder", {(n, refined) for n in (1, 2, 4) for refined in (False, True)}),
        ("unconditional", {(n, refined) for n in (1, 2, 4) for refined in (False, True)}),
        ("imder-mean", {(1, False), (1, True)}),
        *((fill, {(1, False)}) for fill in ("zero", "mean", "knn", "ridge")),
    ):
        for pattern in PATTERNS:
            rows = pick(fixed, method=method, available=list(pattern))
            sentiment = pick(rows, metric="mae")
            assert {(row["draws"], row["refined"]) for row in sentiment} == variants
            for metric in ("corr", "acc2", "f1", "acc7", "acc2_has0", "acc5"):
                assert len(pick(rows, metric=metric)) == len(variants)
            absent = [k for k in MODALITIES if k not in pattern]
            expected = [*absent, None] if len(absent) == 2 else absent
            for metric in ("feature_error", "energy_distance", "sliced_wasserstein"):
                for draws, refined in variants:
                    found = pick(rows, metric=metric, draws=draws, refined=refined)
                    assert [row["modality"] for row in found] == expected
                if len(absent) == 2:
                    parts = [row["value"] for row in found]
                    assert parts[2] == pytest.approx((parts[0] + parts[1]) / 2, abs=1e-5)
            cover = pick(rows, metric="coverage90")
            assert {row["draws"] for row in cover} == ({2, 4} if len(variants) == 6 and absent else set())
            assert all(row["exact"] == pytest.approx(0.9 * (row["draws"] - 1) / (row["draws"] + 1)) for row in cover)
            assert all(row["nominal_missing_rate"] == pytest.approx(len(absent) / 3, abs=1e-5) for row in rows)
            assert all(row["realised_missing_rate"] == row["nominal_missing_rate"] for row in rows)
            assert all(row["shares"][len(absent)] == 1 for row in rows)
    assert {(row["sampler"], row["steps"], row["nfe"]) for row in pick(fixed, method="imder")} == {("dpmpp-2m", 3, 3)}
    assert {row["guidance"] for row in fixed} == {1.0, 0.0, None}
    assert all(row["value"] is None or math.isfinite(row["value"]) for row in fixed)
    floors = pick(fixed, method="real")
    assert len(floors) == 12
    assert {row["modality"] for row in pick(floors, metric="energy_distance_floor")} == set(MODALITIES)


def test_figures_agree_with_each_other(fixed):
    complete = {row["value"] for row in pick(fixed, available=list(MODALITIES), metric="mae")} - {None}
    assert len({v for v in complete if v is not None}) == 1  # with nothing missing, all methods are the same
    # a clip's mean fill: 1 on average over a split like the training split
    assert pick(fixed, method="mean", metric="feature_error")[0]["value"] == pytest.approx(1, abs=0.3)
    # unconditional draws do not depend on what is available
    for metric in ("feature_error", "energy_distance", "coverage90"):
        found = pick(fixed, method="unconditional", metric=metric, modality="audio", draws=4, refined=False)
        assert len(found) == 3
        assert len({row["value"] for row in found}) == 1
    # the mean of draws is nearer than one of them
    for row in pick(fixed, method="imder", metric="feature_error", draws=1, refined=False):
        four = pick(
            fixed, method="imder", metric="feature_error", draws=4, refined=False, available=row["available"],
            modality=row["modality"],
        )[0]  # fmt: skip
        assert four["value"] < row["value"]


def test_feature_error_by_hand(home, fixed):
    """One draw for A observed, made clip by clip with the pipeline's own parts."""
    run, data = hub.load_run(home / "run"), FeatureSet.open(home / "data")
    total, errors = 0.0, []
    for clip in data.split("test"):
        one = encode_clips(run.model, run.standardiser, [clip])
        hidden = {k: z if k == "audio" else torch.full_like(z, torch.nan) for k, z in one.latents.items()}
        got = run.model.recover(
            hidden, torch.tensor([[False, True, False]]), valid=one.valid, seeds=[noise_seed(0, clip.id, 0)]
        )
        errors.append(float((got["text"] - one.latents["text"])[..., one.valid[0]].square().mean()))
        total += float((run.model.predict(got, one.valid).detach() - clip.label).abs())
    row = pick(fixed, method="imder", available=["audio"], modality="text", metric="feature_error", draws=1)[0]
    assert row["value"] == pytest.approx(np.mean(errors), abs=2e-5)
    assert row["n"] == 15
    mae = pick(fixed, method="imder", available=["audio"], metric="mae", draws=1, refined=False)[0]
    assert mae["value"] == pytest.approx(total / 15, abs=2e-5)


def test_batches_and_draw_counts_change_nothing(home, fixed, tmp_path):
    flags = ("--methods", "imder", "unconditional", "imder-mean", "--draws", 2, "--batch", 4)
    small = evaluate(home, tmp_path / "small.jsonl", *flags)
    assert len(small) > 300
    for row in small:
        same = pick(fixed, **{k: v for k, v in row.items() if k not in ("value", "se")})
        assert len(same) == 1
        if row["value"] is None:
            assert same[0]["value"] is None
        else:
            assert row["value"] == pytest.approx(same[0]["value"], abs=1e-4)


def test_many_draws_are_held_a_few_clips_at_a_time(home, tmp_path, monkeypatch):
    flags = ("--methods", "imder", "--draws", 6, "--limit", 8)
    whole = evaluate(home, tmp_path / "whole.jsonl", *flags)
    sizes = []
    original = RecoveryStudy._judge_draws
    monkeypatch.setattr("imder.evaluation.evaluate.HELD", 13)
    monkeypatch.setattr(
        RecoveryStudy,
        "_judge_draws",
        lambda self, made, cell, part, *rest: sizes.append(len(part)) or original(self, made, cell, part, *rest),
    )
    few = evaluate(home, tmp_path / "few.jsonl", *flags)
    assert max(sizes) == 2
    assert [row["metric"] for row in few] == [row["metric"] for row in whole]
    for a, b in zip(few, whole, strict=True):
        assert a["value"] == pytest.approx(b["value"], abs=1e-4)


def test_the_same_command_computes_nothing_twice(home, tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.jsonl"
    flags = ("--methods", "zero", "imder", "--draws", 2, "--limit", 9)
    rows = evaluate(home, out, *flags)
    whole = out.read_bytes()
    computed = []
    original = RecoveryStudy.outcome
    monkeypatch.setattr(
        RecoveryStudy, "outcome", lambda self, cell, *rest: computed.append(cell.title) or original(self, cell, *rest)
    )
    evaluate(home, out, *flags)
    assert computed == []
    assert out.read_bytes() == whole
    # killed in the middle of a line: the cell it belongs to is computed again, the rest is kept
    out.write_bytes(whole[: int(len(whole) * 0.8)])
    again = evaluate(home, out, *flags)
    assert "torn" in capsys.readouterr().err
    assert 1 <= len(computed) < 14
    key = json.dumps
    assert sorted(map(key, again)) == sorted(map(key, rows))
    # more draws are other figures
    computed.clear()
    more = evaluate(home, out, "--methods", "imder", "--draws", 3, "--limit", 9)
    assert len(computed) == 7
    assert len(more) > len(rows)


def test_random_protocol_and_its_masks(home, tmp_path):
    out = tmp_path / "random.jsonl"
    flags = ("--rates", 0, 0.5, 0.7, "--seeds", 2, "--draws", 2, "--methods", "imder", "mean")
    rows = evaluate(home, out, "--protocol", "random", *flags)
    drawn = pick(rows, protocol="random", method="imder")
    assert {row["nominal_missing_rate"] for row in drawn} == {0, 0.5, 0.7}
    assert {row["seed"] for row in drawn} == {0, 1}
    assert all(row["available"] == [] for row in drawn)
    stored = json.loads((tmp_path / "random.masks.json").read_text())["masks"]
    ids = [clip.id for clip in FeatureSet.open(home / "data").split("test")]
    for row in drawn:
        masks = [stored[row["mask"]][clip] for clip in ids]
        realised = 1 - sum(map(len, masks)) / (3 * len(ids))
        assert row["realised_missing_rate"] == pytest.approx(realised, abs=1e-5)
        assert row["shares"] == pytest.approx([np.mean([len(m) == n for m in masks]) for n in (3, 2, 1)], abs=1e-5)
        if row["modality"] and row["metric"] == "feature_error":
            assert row["n"] == sum(row["modality"] not in names for names in masks)
    assert pick(drawn, nominal_missing_rate=0.7)[0]["realised_missing_rate"] == pytest.approx(2 / 3, abs=1e-5)
    assert not pick(drawn, nominal_missing_rate=0, metric="feature_error")
    # stored masks are read back, not drawn again
    first = next(name for name, entry in stored.items() if "random-0.5-seed0" in name)
    stored[first] = {clip: ["text"] for clip in ids}
    (tmp_path / "other.masks.json").write_text(json.dumps({"format": "imder-masks/1", "masks": stored}))
    flags = ("--protocol", "random", "--rates", 0.5, "--methods", "mean")
    other = evaluate(home, tmp_path / "other.jsonl", *flags)
    assert pick(other, method="mean")[0]["realised_missing_rate"] == pytest.approx(2 / 3, abs=1e-5)


@pytest.fixture(scope="module")
def rivals(home):
    """Runs of two baselines with random weights, one of which sees whole videos."""
    run = hub.load_run(home / "run")
    torch.manual_seed(1)
    models = {
        "gcnet": GCNet(GCNetConfig(WIDTHS, hidden=4)),
        "subset": SubsetFusion(FusionConfig(WIDTHS, layers=1)),
    }
    for name, model in models.items():
        hub.save_run(home / name, model, run.standardiser, run.info["data"], {"seed": 0})
    return [str(home / name) for name in models]


def test_several_runs_and_protocols_in_one_file(home, rivals, tmp_path):
    flags = ("--protocol", "fixed", "random", "batchwise", "unequal", "--rates", 0, 0.7, "L=.1,A=.3,V=.5", "--seeds", 2)
    flags += ("--methods", "imder", "mean", "gcnet", "subset", "--draws", 2)
    args = ["evaluate", "--run", str(home / "run"), *rivals, "--data", str(home / "data")]
    two, one = tmp_path / "two.jsonl", tmp_path / "one.jsonl"
    assert main([*args, "--out", str(two), *map(str, flags)]) == 0
    rows = read_rows(two, print)
    mae = pick(rows, metric="mae")
    assert {row["method"] for row in mae} == {"imder", "mean", "gcnet", "subset"}
    assert len({row["run"] for row in mae}) == 3
    for method in ("mean", "gcnet", "subset"):  # fixed masks are answered once
        own = pick(mae, method=method)
        assert len(pick(own, protocol="fixed")) == 7
        assert len(pick(own, protocol="random")) == len(pick(own, protocol="batchwise")) == 4
        assert len(pick(own, protocol="unequal")) == 2
        assert {row["sampler"] for row in own} == {None}
    assert len(pick(mae, method="imder", protocol="fixed", draws=2, refined=True)) == 7
    assert pick(mae, protocol="unequal")[0]["nominal_missing_rate"] == pytest.approx(0.3)
    # all methods of a set of masks have the same masks, and the same predictions stand behind the rows
    for mask in {row["mask"] for row in mae}:
        assert len({row["realised_missing_rate"] for row in pick(mae, mask=mask)}) == 1
    behind = read_predictions(two, print)
    assert len(behind) == len(mae)
    for entry in behind:
        place = {"method": entry.method, "mask": entry.mask, "draws": entry.draws, "refined": entry.refined}
        own = pick(mae, seed=entry.seed, **place)
        assert len(own) == 1
        assert np.abs(entry.prediction - entry.clips.label).mean() == pytest.approx(own[0]["value"], abs=1e-4)
    # one process and two, and other batches, give the same rows
    assert main([*args, "--out", str(one), *map(str, flags), "--workers", "1", "--batch", "4"]) == 0
    other = read_rows(one, print)
    assert [{**row, "value": 0, "se": 0} for row in other] == [{**row, "value": 0, "se": 0} for row in rows]
    assert [row["value"] for row in other] == pytest.approx([row["value"] for row in rows], abs=1e-4)


def test_a_baseline_sees_what_is_available(home, rivals, tmp_path):
    """Rows of a baseline by hand, clip by clip, with the unavailable features made NaN."""
    out = tmp_path / "rows.jsonl"
    args = ["evaluate", "--run", rivals[1], "--data", str(home / "data"), "--out", str(out), "--workers", "1"]
    assert main(args) == 0
    run, errors = hub.load_run(rivals[1]), []
    for clip in FeatureSet.open(home / "data").split("test"):
        batch = run.standardiser.apply(collate([clip]))
        features = {k: x if k == "vision" else torch.full_like(x, torch.nan) for k, x in batch.features.items()}
        with torch.no_grad():
            value = run.model(dataclasses.replace(batch, features=features), torch.tensor([[False, False, True]])).value
        errors.append(abs(float(value) - clip.label))
    row = pick(read_rows(out, print), available=["vision"], metric="mae")[0]
    assert row["value"] == pytest.approx(np.mean(errors), abs=1e-5)


def test_tables(home, fixed, capsys):
    assert main(["evaluate", "--table", str(home / "fixed.jsonl")]) == 0
    text = capsys.readouterr().out
    for wanted in (
        "L → A",
        "AV → L",
        "ridge",
        "unconditional",
        "D_k of mean of 4",
        "coverage, 4 draws",
        "other speakers",
    ):
        assert wanted in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len([line for line in lines if "→" in line]) == 20
    row = next(line for line in lines if line.startswith("| LA → V"))
    error = pick(fixed, method="ridge", available=["text", "audio"], metric="feature_error")[0]["value"]
    assert f"{error:.2f}".lstrip("0") in row
    assert "nan" not in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--methods", "magic"), "method: 'magic' is unknown; allowed: imder, imder-mean"),
        (("--protocol", "some"), "protocol: 'some' is unknown; allowed: fixed, random, batchwise, unequal"),
        (("--protocol", "unequal"), "such as L=.1,A=.3,V=.5"),
        (("--protocol", "unequal", "--rates", "L=.1,A=.3"), "none is given for V"),
        (("--protocol", "random", "--rates", "half"), "'half' is not allowed"),
        (("--protocol", "random", "--rates", "1"), "'1' is not allowed"),
        (("--protocol", "random", "--rates=-0.1"), "'-0.1' is not allowed"),
        (("--methods", "gcnet"), "none of these runs has gcnet"),
        (("--workers", "0"), "workers: 0 is not allowed"),
        (("--split", "dev"), "split: 'dev' is unknown; allowed: train, valid, test"),
        (("--protocol", "random", "--rates", "0.9"), "'0.9' is not allowed"),
        (("--protocol", "random", "--rates", "nan"), "'nan' is not allowed"),
        (("--draws", "0"), "draws: 0 is not allowed; a whole number from 1 to 1000 is"),
        (("--seeds", "0"), "seeds: 0 is not allowed"),
        (("--limit", "-1"), "limit: -1 is not allowed"),
        (("--sampler", "leap"), "sampler: 'leap' is unknown"),
        (("--steps", "0"), "steps: 0 is not allowed"),
        (("--guidance", "9"), "guidance: 9.0 is not allowed"),
        (("--run", "nowhere"), "nowhere"),
    ],
)
def test_bad_flags_are_one_sentence(home, tmp_path, capsys, flags, said):
    out = tmp_path / "rows.jsonl"
    evaluate(home, out, *flags, expect=2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not out.exists()


def test_other_widths_are_named(home, tmp_path, capsys):
    rng = np.random.default_rng(1)
    clips = {
        split: [
            Clip(
                f"{split}{i}",
                split,
                i,
                "",
                {k: rng.normal(size=(6, 3 + j)).astype("f4") for j, k in enumerate(MODALITIES)},
                0.0,
            )
            for i in range(4)
        ]
        for split in ("train", "test")
    }
    label = {"name": "sentiment", "range": [-3, 3]}
    write_feature_set(tmp_path / "wide", clips, name="wide", title="Wide", label=label)
    evaluate(home, tmp_path / "rows.jsonl", "--data", tmp_path / "wide", expect=2)
    error = capsys.readouterr().err
    assert "text 5, audio 4, vision 6" in error
    assert "text 3, audio 4, vision 5" in error
    assert not (tmp_path / "rows.jsonl").exists()


def test_other_files_are_left_alone(home, tmp_path, capsys):
    out = tmp_path / "notes.jsonl"
    for content, said in (
        ("dear diary\n", "line 1 is not JSON"),
        ('{"method": "imder", "value": 1}\n', "another schema"),
        ("[1, 2]\n", "no row"),
    ):
        out.write_text(content)
        evaluate(home, out, "--methods", "zero", expect=2)
        assert said in capsys.readouterr().err
        assert out.read_text() == content
        assert main(["evaluate", "--table", str(out)]) == 2
    (tmp_path / "fresh.masks.json").write_text("{}")
    evaluate(home, tmp_path / "fresh.jsonl", "--methods", "zero", expect=2)
    assert "not a file of masks" in capsys.readouterr().err
    assert (tmp_path / "fresh.masks.json").read_text() == "{}"
    assert main(["evaluate", "--out", str(out)]) == 2
    with open_rows(tmp_path / "busy.jsonl", print):
        evaluate(home, tmp_path / "busy.jsonl", "--methods", "zero", expect=2)
    assert "another evaluation is writing" in capsys.readouterr().err


def test_without_a_validation_split(home, tmp_path):
    data = FeatureSet.open(home / "data")
    label = {"name": "sentiment", "range": [-3, 3]}
    splits = {split: list(data.split(split)) for split in ("train", "test")}
    small = write_feature_set(tmp_path / "small", splits, name="small", title="Small", label=label)
    run = hub.load_run(home / "run")
    config = EvaluationConfig(methods=("knn", "ridge"), limit=5)
    study = RecoveryStudy(run, small, config, "run", MasksFile(tmp_path / "rows.jsonl"))
    rows = [row for cell in study.cells for row in study.answer(cell)[0]]
    assert {row["method"] for row in rows} == {"knn", "ridge"}
    assert {row["limit"] for row in rows} == {5}
