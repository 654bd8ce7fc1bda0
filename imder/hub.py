"""A run as a folder: saved whole, loaded only if it is as it was saved, from the disk or from the Hub."""

from __future__ import annotations

import copy
import dataclasses
import errno
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from imder import fetch
from imder.baselines import BASELINES, BaselineConfig, Recognizer, probe
from imder.data.standardise import Standardiser
from imder.modality import MODALITIES
from imder.model import IMDer, ModelConfig
from imder.model.task import check_outputs
from imder.run_card import run_card

FORMAT = "imder-run/1"
CONFIG, WEIGHTS, METRICS, MANIFEST = "config.json", "model.safetensors", "metrics.json", "manifest.json"
LOG, CARD = "log.jsonl", "README.md"
#: What decides a run is sealed by the manifest; the log and the card are for readers and may be edited.
SEALED = (CONFIG, WEIGHTS, METRICS)
FILES = (*SEALED, MANIFEST, LOG, CARD)

#: The checkpoint that comes with the repository.
BUNDLED = Path(__file__).resolve().parent.parent / "checkpoints" / "corrected"

PRECISIONS = {"float32": torch.float32, "float16": torch.float16}

_MAX_BYTES = {CONFIG: 16 << 20, METRICS: 16 << 20, MANIFEST: 1 << 20, WEIGHTS: 1 << 30}
_MAX_TENSORS = 10_000
_MAX_DEPTH = 64  # layers or blocks of one kind; read from the configuration before anything is built
_FLAGS = {f.name for f in dataclasses.fields(ModelConfig) if f.type == "bool"}
_TOLERANCE = 1e-3  # of the known answer: far above rounding between machines, far below a wrong network


class RunError(ValueError):
    """A run that cannot be used; the text names the stage, the file and the value."""


@dataclass(frozen=True, eq=False)
class Run:
    """A model and what it was trained on: `info` is config.json, `notice` tells if it is not the run asked for."""

    model: IMDer | Recognizer
    standardiser: Standardiser
    info: dict[str, Any]
    folder: Path
    source: str
    metrics: dict[str, Any] = field(default_factory=dict)
    notice: str | None = None

    @property
    def kind(self) -> str:
        """`imder`, or the baseline's name in `BASELINES`."""
        return self.model.kind if isinstance(self.model, Recognizer) else "imder"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it predicts; none where it predicts a sentiment."""
        return tuple(self.info.get("data", {}).get("label_classes", ()))

    @property
    def lacks(self) -> tuple[str, ...]:
        """The modalities that its data have of no clip: to the model they are there and empty, never recovered."""
        return tuple(self.info.get("data", {}).get("lacks", ()))

    @property
    def repository(self) -> str | None:
        """`owner/name` on the Hub that it was pulled from."""
        found = None if os.path.isdir(os.path.expanduser(self.source)) else fetch.repository(self.source)
        return None if found is None else found[0]

    @property
    def name(self) -> str:
        """The folder's name, or the repository's."""
        return self.repository.partition("/")[2] if self.repository else self.folder.resolve().name

    @property
    def pinned(self) -> str:
        """A source that opens just this again: the folder, or `owner/name@commit`; the cache names a folder by it."""
        return f"{self.repository}@{self.folder.name}" if self.repository else str(self.folder)


# Saving --------------------------------------------------------------------------------------------------------------


def save_run(
    folder: str | os.PathLike[str],
    model: IMDer | Recognizer,
    standardiser: Standardiser,
    data_info: dict[str, Any],
    training_info: dict[str, Any],
    *,
    metrics: dict[str, Any] | None = None,
    card: str = "",
    log: Iterable[dict[str, Any]] | None = None,
    half: bool = False,
) -> None:
    """Writes the run folder; one that exists keeps its other files and is touched only when the new files are complete.

    `data_info`: name, title, fingerprint, synthetic, label_range, feature_names and counts; `card`: the measured text
    under the model card's head; `half`: parameters as float16, buffers (statistics) stay float32.
    Raises RunError for values that `load_run` would refuse, and when the disk does not take the files.
    """
    folder = Path(folder).resolve()
    _check_target(folder)
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.state_dict().items()}
    if half:
        parameters = {name for name, _ in model.named_parameters()}
        tensors = {name: x.half() if name in parameters else x for name, x in tensors.items()}
    _check_finite(tensors, folder)
    stored = copy.deepcopy(model).cpu()
    stored.load_state_dict({name: x.float() if x.is_floating_point() else x for name, x in tensors.items()})
    config = {
        "format": FORMAT,
        "model": model_json(model),
        "weights": "float16" if half else "float32",
        "standardiser": standardiser.to_json(),
        "data": data_info,
        "training": training_info,
        "known_answer": known_answer(stored),
    }
    _parse_config(config, folder)
    files = {
        CONFIG: _json_bytes(config, CONFIG),
        WEIGHTS: safetensors.torch.save(tensors),
        METRICS: _json_bytes(metrics or {}, METRICS),
        CARD: run_card(config, kind_of(config["model"]), card).encode(),
    }
    if log is not None:
        files[LOG] = b"".join(_json_bytes(row, LOG, indent=None) for row in log)
    files[MANIFEST] = _json_bytes({name: _seal(files[name]) for name in SEALED}, MANIFEST)
    _write_folder(folder, files)


def model_json(model: IMDer | Recognizer) -> dict[str, Any]:
    """The model's part of config.json: its configuration, and for a baseline its `kind`."""
    kind = {} if isinstance(model, IMDer) else {"kind": model.kind}
    return kind | model.config.to_json()


def kind_of(model: dict[str, Any]) -> str:
    """`imder` or the baseline's name, of the model's part of config.json."""
    return model.get("kind", "imder")


def _check_target(folder: Path) -> None:
    """Refuses to write over somebody else's files."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: there is a file of this name; a run needs a folder")
    ours = folder / CONFIG
    if ours.is_file() and FORMAT.encode() in ours.read_bytes()[:4096]:
        return
    if taken := [name for name in FILES if name != LOG and (folder / name).exists()]:
        raise RunError(f"{folder}: holds {', '.join(taken)} but is not a run; choose an empty or a new folder")


def _write_folder(folder: Path, files: dict[str, bytes]) -> None:
    staged, prefix = None, f".{folder.name}.saving-"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f"{glob.escape(prefix)}*"):  # of a save that was killed
            shutil.rmtree(stale, ignore_errors=True)
        staged = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        staged.chmod(0o755)
        for name, data in files.items():
            with open(staged / name, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync(staged)
        if folder.exists():
            for name in files:  # a kill between two of these leaves a run that its manifest refuses
                os.replace(staged / name, folder / name)
            _sync(folder)
        else:
            os.rename(staged, folder)
        _sync(folder.parent)
    except OSError as error:
        size = sum(map(len, files.values())) / 1e6
        reason = "no space is left on the disk" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise RunError(f"{folder}: the run ({size:.1f} MB) was not written: {reason}") from None
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _seal(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _json_bytes(value: Any, name: str, indent: int | None = 1) -> bytes:
    try:
        return (json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise RunError(f"{name}: {error}; only finite numbers, strings, lists and objects can be stored") from None


# Loading -------------------------------------------------------------------------------------------------------------


def load_run(folder: str | os.PathLike[str], *, source: str | None = None) -> Run:
    """The run in `folder`, checked in this order: manifest, configuration, weights, known answer.

    Raises RunError, which names the stage, the file and the value, for anything that is not as `save_run` left it.
    """
    folder = Path(folder)
    sealed = verify(folder)
    info = _read_json(sealed[CONFIG], folder / CONFIG, "configuration")
    config, standardiser = _parse_config(info, folder)
    metrics = _read_json(sealed[METRICS], folder / METRICS, "metrics")
    kind = kind_of(info["model"])
    build = IMDer if kind == "imder" else BASELINES[kind][0]
    model = _build(build, config, info["weights"], sealed[WEIGHTS], folder)
    _check_answer(model, info["known_answer"], folder)
    return Run(model, standardiser, info, folder, str(source or folder), metrics)


def read_info(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and metrics.json of a run folder, checked as `load_run` does, without its weights."""
    info = _read_json(_read(folder / CONFIG), folder / CONFIG, "configuration")
    _parse_config(info, folder)
    return info, _read_json(_read(folder / METRICS), folder / METRICS, "metrics")


def verify(folder: Path) -> dict[str, bytes]:
    """The sealed files' contents; raises RunError unless each is there and has the manifest's size and sha256."""
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder")
    manifest = _read_json(_read(folder / MANIFEST), folder / MANIFEST, "manifest")
    if set(manifest) != set(SEALED):
        raise RunError(f"{folder / MANIFEST}: manifest: it names {sorted(manifest)}; it must name {', '.join(SEALED)}")
    contents = {}
    for name in SEALED:
        data, entry = _read(folder / name), manifest[name]
        found = _seal(data)
        if entry != found:
            what = "sha256" if isinstance(entry, dict) and entry.get("bytes") == len(data) else "bytes"
            said = entry.get(what) if isinstance(entry, dict) else entry
            have, said = (str(value)[:12] for value in (found[what], said))
            raise RunError(
                f"{folder / name}: manifest: {what} is {have}, the manifest says {said}; the file is damaged"
            )
        contents[name] = data
    return contents


def _read(path: Path) -> bytes:
    try:
        size, most = path.stat().st_size, _MAX_BYTES[path.name]
        if size > most:
            raise RunError(f"{path}: manifest: the file has {size} bytes; at most {most} are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise RunError(f"{path}: manifest: the file is absent; a run needs {', '.join((*SEALED, MANIFEST))}") from None
    except OSError as error:
        raise RunError(f"{path}: manifest: the file cannot be read ({error.strerror})") from None


def _read_json(data: bytes, path: Path, stage: str) -> dict[str, Any]:
    def number(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"{text[:20]} is not a finite number")
        return value

    def whole(text: str) -> int:
        if len(text) > 20:
            raise ValueError(f"{text[:20]}... is too large a number")
        return int(text)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(value := dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
        return value

    try:
        value = json.loads(
            data.decode(), parse_float=number, parse_int=whole, parse_constant=number, object_pairs_hook=members
        )
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: {stage}: not strict JSON ({error})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: {stage}: holds a {type(value).__name__}; an object is needed")
    return value


def _parse_config(info: dict[str, Any], folder: Path) -> tuple[ModelConfig | BaselineConfig, Standardiser]:
    """Checks config.json's content before anything of its sizes is allocated."""

    def refuse(text: str) -> RunError:
        return RunError(f"{folder / CONFIG}: configuration: {text}")

    if info.get("format") != FORMAT:
        raise refuse(f"format is {info.get('format')!r}; {FORMAT!r} is needed")
    names = {"format", "model", "weights", "standardiser", "data", "training", "known_answer"}
    if set(info) != names:
        raise refuse(f"fields {sorted(set(info) ^ names)} are absent or unknown; needed: {', '.join(sorted(names))}")
    if info["weights"] not in PRECISIONS:
        raise refuse(f"weights is {info['weights']!r}; allowed: {', '.join(PRECISIONS)}")
    try:
        config = _model_config(info["model"])
        standardiser = Standardiser.from_json(info["standardiser"])
    except (ValueError, OverflowError) as error:
        raise refuse(str(error)) from None
    for name, value in info["model"].items():
        if isinstance(value, bool) and name not in _FLAGS:
            raise refuse(f"{name} is {str(value).lower()}; a number is needed")
        if name.endswith(("layers", "blocks")) and value > _MAX_DEPTH:
            raise refuse(f"{name} is {value}; at most {_MAX_DEPTH} are built")
    for part in ("data", "training"):
        if not isinstance(info[part], dict):
            raise refuse(f"{part} is a {type(info[part]).__name__}; an object is needed")
    data = info["data"]
    if not isinstance(data.get("name"), str) or not data["name"]:
        raise refuse(f"data.name is {data.get('name')!r}; a name is needed")
    if not isinstance(data.get("synthetic"), bool):
        raise refuse(f"data.synthetic is {data.get('synthetic')!r}; true or false is needed")
    limits = data.get("label_range")
    if (
        not isinstance(limits, list | tuple)
        or len(limits) != 2
        or not all(map(_is_number, limits))
        or limits[0] >= limits[1]
    ):
        raise refuse(f"data.label_range is {limits!r}; two numbers are needed, the smaller first")
    classes = data.get("label_classes", [])
    if not isinstance(classes, list | tuple) or not all(isinstance(name, str) for name in classes):
        raise refuse(f"data.label_classes is {str(classes)[:40]!r}; a list of names is needed")
    lacks = data.get("lacks", [])
    if lacks not in ([], *([k] for k in MODALITIES)):
        raise refuse(f"data.lacks is {str(lacks)[:40]!r}; a list of one of {', '.join(MODALITIES)} is needed")
    try:
        check_outputs(config.outputs, classes)
    except ValueError as error:
        raise refuse(str(error)) from None
    named = data.get("feature_names")
    for k in MODALITIES:
        width = config.feature_dims[k]
        if len(standardiser.mean[k]) != width:
            raise refuse(f"standardiser has {len(standardiser.mean[k])} features of {k}; the model has {width}")
        own = named.get(k) if isinstance(named, dict) else None
        if not isinstance(own, list | tuple) or len(own) != width or not all(isinstance(n, str) for n in own):
            raise refuse(f"data.feature_names of {k} is not a list of {width} names, one a feature of the model")
    answer = info["known_answer"]
    if not isinstance(answer, list) or not answer or not all(map(_is_number, answer)):
        raise refuse("known_answer is not a list of finite numbers")
    return config, standardiser


def _model_config(model: Any) -> ModelConfig | BaselineConfig:
    if not isinstance(model, dict) or "kind" not in model:
        return ModelConfig.from_json(model)
    if model["kind"] not in BASELINES:
        raise ValueError(f"kind is {model['kind']!r}; allowed: {', '.join(BASELINES)}")
    return BASELINES[model["kind"]][1].from_json({name: x for name, x in model.items() if name != "kind"})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _build(
    build: type[IMDer | Recognizer], config: ModelConfig | BaselineConfig, precision: str, data: bytes, folder: Path
) -> IMDer | Recognizer:
    """The model of `config` with the weights in `data`, without ever filling it with others."""
    path = folder / WEIGHTS
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise RunError(f"{path}: weights: not a whole safetensors file ({error})") from None
    if len(tensors) > _MAX_TENSORS:
        raise RunError(f"{path}: weights: holds {len(tensors)} tensors; at most {_MAX_TENSORS} are read")
    try:
        with torch.device("meta"):
            model = build(config)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RunError(f"{folder / CONFIG}: configuration: no model can be built from it ({error})") from None
    expected, parameters = model.state_dict(), {name for name, _ in model.named_parameters()}
    if absent := sorted(expected.keys() - tensors.keys()):
        raise RunError(f"{path}: weights: {len(absent)} tensors are absent, the first is {absent[0]}")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise RunError(f"{path}: weights: {len(unknown)} tensors are not the model's, the first is {unknown[0]}")
    for name, wanted in expected.items():
        have = tensors[name]
        if have.shape != wanted.shape:
            raise RunError(
                f"{path}: weights: {name} has shape {tuple(have.shape)}; the model's is {tuple(wanted.shape)}"
            )
        dtype = PRECISIONS[precision] if name in parameters else wanted.dtype
        if have.dtype != dtype:
            raise RunError(f"{path}: weights: {name} is {have.dtype}; {dtype} is needed")
    _check_finite(tensors, folder)
    model.load_state_dict({name: x.to(expected[name].dtype) for name, x in tensors.items()}, strict=True, assign=True)
    return model.eval()


def _check_finite(tensors: dict[str, Tensor], folder: Path) -> None:
    for name, x in tensors.items():
        if x.is_floating_point() and not torch.isfinite(x).all():
            count = int((~torch.isfinite(x)).sum())
            raise RunError(f"{folder / WEIGHTS}: weights: {name} holds {count} values that are not finite")


@torch.no_grad()
def known_answer(model: IMDer | Recognizer) -> list[float]:
    """Numbers in which every part of the model has a share, from a few fixed rows that each miss a modality."""
    if isinstance(model, Recognizer):
        return probe(model)
    training, length = model.training, 12
    model.eval()
    rows = torch.arange(3.0)[:, None, None]
    features = {
        k: torch.sin(rows + torch.arange(float(length))[:, None] * 0.7 + torch.arange(float(width)) * (1.3 + i))
        for i, (k, width) in enumerate((k, model.config.feature_dims[k]) for k in MODALITIES)
    }  # (3, L, F_k)
    available = ~torch.eye(3, dtype=torch.bool)
    valid = model.latent_valid(torch.ones(3, length, dtype=torch.bool))
    latents = model.encode(features)
    recovered = model.conditional_mean(latents, available, valid)
    refined = {k: model.reconstruct(k, z) for k, z in recovered.items()}
    answer = [part[k].square().mean().sqrt() for part in (latents, recovered, refined) for k in MODALITIES]
    answer += [model.read(k, refined[k]).square().mean().sqrt() for k in MODALITIES]
    answer += model.output(refined, valid).mean(dim=1)
    model.train(training)
    return [float(x) for x in answer]


def _check_answer(model: IMDer, known: list[float], folder: Path) -> None:
    try:
        found = known_answer(model)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RunError(f"{folder / CONFIG}: known answer: the model does not run ({error})") from None
    if len(found) != len(known):
        raise RunError(f"{folder / CONFIG}: known answer: holds {len(known)} numbers; {len(found)} are needed")
    for i, (have, wanted) in enumerate(zip(found, known, strict=True)):
        if not abs(have - wanted) <= _TOLERANCE * max(abs(wanted), 0.1):
            raise RunError(
                f"{folder / CONFIG}: known answer: number {i} came out as {have:.6g}, it was {wanted:.6g} when the run "
                "was saved; weights, configuration and code do not belong together"
            )


# The Hub -------------------------------------------------------------------------------------------------------------


def resolve(
    source: str | os.PathLike[str] | None,
    *,
    deadline: float = 10.0,
    patient: bool = False,
    cache_dir: str | Path | None = None,
    anonymous: bool = False,
) -> tuple[Path, str | None]:
    """The folder that serves for `source`, and a one-line notice if it is not what was asked for.

    A folder is itself; `owner/name[@revision]` is pulled from the Hub (or its cache) within `deadline` seconds (with
    `patient`: while something arrives) and its checksums are compared, and where that fails the bundled checkpoint
    serves; None and "bundled" are the bundled one.
    Raises RunError for a source that is neither a folder nor a repository's name.
    """
    if source is None or str(source) == "bundled":
        return BUNDLED, None
    if os.path.isdir(folder := os.path.expanduser(source)):
        return Path(folder), None
    try:
        return pull(str(source), deadline=deadline, patient=patient, cache_dir=cache_dir, anonymous=anonymous)
    except fetch.FetchError as error:
        return BUNDLED, f"{source}: no such folder here, and {error}; the bundled checkpoint serves instead."


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    deadline: float = 10.0,
    cache_dir: str | Path | None = None,
    fallback: bool = True,
    anonymous: bool = False,
) -> Run:
    """The run of `source`, as `resolve` finds it; a faulty one from the Hub is replaced by the bundled one too.

    A faulty folder that the user named is an error. With `fallback` False nothing is replaced: RunError instead, and
    the Hub is waited for while something arrives. `anonymous`: without the token, so that nothing private is opened.
    """
    folder, notice = resolve(source, deadline=deadline, patient=not fallback, cache_dir=cache_dir, anonymous=anonymous)
    ours = folder == BUNDLED
    if notice and ours and not fallback:
        raise RunError(notice.partition("; the bundled")[0])
    try:
        run = load_run(folder, source="bundled" if ours else str(source))
    except RunError as error:
        if ours or not fallback or os.path.isdir(os.path.expanduser(source)):
            raise
        notice = f"{source}: {fetch.without(folder, error)}; the bundled checkpoint serves instead."
        run = load_run(BUNDLED, source="bundled")
    return dataclasses.replace(run, notice=notice)


def repository(source: str) -> tuple[str, str | None]:
    """`owner/name` and the revision of a Hub repository's name; RunError for any other text."""
    found = fetch.repository(source)
    if found is None:
        shown = source if len(source) <= 100 else source[:100] + "..."
        raise RunError(
            f"{shown!r} is neither a folder nor a Hub repository; allowed: a folder or owner/name[@revision]"
        )
    return found


def pull(
    source: str,
    *,
    deadline: float = 10.0,
    patient: bool = False,
    cache_dir: str | Path | None = None,
    anonymous: bool = False,
) -> tuple[Path, str | None]:
    """The folder in the cache of a run on the Hub, its checksums compared, and a notice as of `fetch.pull`."""
    repository(source)
    how = {"deadline": deadline, "patient": patient, "cache_dir": cache_dir, "anonymous": anonymous}
    return fetch.pull(source, FILES, verify, **how)
