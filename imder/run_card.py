"""The card that stands in every run's folder: what the run is and what it was made from."""

from __future__ import annotations

from typing import Any

from imder.baselines import BASELINES
from imder.modality import MODALITIES, names_of

_TAGS = ("multimodal-sentiment-analysis", "missing-modality", "diffusion", "score-based-model")
_CLASS_TAG = "multimodal-emotion-recognition"  # in the place of the first, where labels are classes
_ABOUT = """\
Recovers missing modalities of a clip (language, voice, face) by reverse diffusion and predicts its {label}
from them (after Wang et al. 2023, *Incomplete Multimodality-Diffused Emotion Recognition*).
`RecoveryPipeline.from_pretrained` loads this folder or its Hub repository."""
_ABOUT_BASELINE = """{about}
It predicts a clip's {label} from those of language, voice and face that are
there; it stands beside IMDer for comparison. `imder.hub.load` opens this folder or its Hub repository,
`python -m imder evaluate --run` measures it."""


def _sizes(model: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in model.items() if isinstance(value, int | float))


def run_card(info: dict[str, Any], kind: str, body: str = "") -> str:
    """README.md of a run, `imder` or a baseline's name: the Hub's front matter, what it was made from, and `body`."""
    model, data, training = info["model"], info["data"], info["training"]
    baseline = None if kind == "imder" else BASELINES[kind][0]
    what = f"IMDer, preset {model['preset']}" if baseline is None else baseline.title
    classes = data.get("label_classes", ())
    tags = [_CLASS_TAG if classes else _TAGS[0], *(_TAGS[1:] if baseline is None else _TAGS[1:2])]
    label = data.get("label_name", "sentiment")
    about = (
        _ABOUT.format(label=label) if baseline is None else _ABOUT_BASELINE.format(about=baseline.about, label=label)
    )
    sizes = "" if baseline is None else _sizes(model)
    rows = {
        "preset": model.get("preset"),
        "sizes": sizes or None,
        "data": data.get("title") or data["name"],
        "classes": ", ".join(classes) or None,
        "absent from the data": names_of(data.get("lacks", ())) or None,
        "recordings": "synthetic, no recordings" if data["synthetic"] else "real recordings",
        "data fingerprint": data.get("fingerprint"),
        "training clips": data.get("n_train"),
        "features": ", ".join(f"{k} {model['feature_dims'][k]}" for k in MODALITIES),
        "weights": info["weights"],
        "command": f"`{training['command']}`" if training.get("command") else None,
        "seed": training.get("seed"),
    }
    facts = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None)
    listed = "\n".join(f"- {tag}" for tag in tags)
    return f"""---
license: mit
library_name: imder
pipeline_tag: video-classification
tags:
{listed}
---

# {what}, trained on {data.get("title") or data["name"]}

{about}

| | |
|---|---|
{facts}
""" + (f"\n{body.strip()}\n" if body.strip() else "")
