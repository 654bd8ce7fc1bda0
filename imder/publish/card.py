"""The model card of a pushed run: everything in it comes from the run, its data's description, and measured rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from imder import hub
from imder.baselines import BASELINES
from imder.card import MADE, Head, join_card, split_card, table
from imder.data.dataset import BUNDLED, FeatureSet
from imder.modality import MODALITIES, NAMES, SYMBOLS, names_of
from imder.publish.figures import METRICS, Figures, whole
from imder.run_card import run_card

#: After the pipeline of a run that predicts classes: one recovery, and what it predicts.
_CLASSES_SHOWN = """
clip = pipeline.data.split("test")[0]
recovery = pipeline(RecoveryRequest(clip, available=("text", "audio")))
print(dict(zip(recovery.classes, recovery.predictions["recovered"])))  # the probability of each class"""
_LEGEND = ", ".join(f"{SYMBOLS[k]} {NAMES[k].lower()}" for k in MODALITIES)


def model_card(run: hub.Run, repo_id: str, figures: Sequence[Figures]) -> str:
    """README.md of the repository: the run's own card under a complete head, then use, figures and limits."""
    path = run.folder / hub.CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else run_card(run.info, run.kind)
    head, body = split_card(text, path)
    standard, _ = split_card(run_card(run.info, run.kind), path)
    tags = list(dict.fromkeys([*_listed(head.get("tags")), *standard["tags"]]))
    if run.info["data"]["synthetic"]:
        tags = list(dict.fromkeys([*tags, "synthetic-data"]))
    ours: Head = {
        "license": head.get("license") or standard["license"],
        "library_name": standard["library_name"],
        "pipeline_tag": standard["pipeline_tag"],
        "tags": tags,
        "datasets": [dataset_id(run)],
    }
    if results := _results(run, figures):
        ours["metrics"] = list(dict.fromkeys(result.metric_type for result in results))
        ours["model-index"] = eval_results_to_model_index(repo_id.partition("/")[2], results)
    shown = [section for own in figures if not own.by_training for section in figure_tables(own)]
    return join_card(head | ours, body, MADE, *_use(run, repo_id), *shown, *limits(run, figures))


def facts(run: hub.Run) -> str:
    """What the run was made from, as a table."""
    data, model, training = run.info["data"], run.info["model"], run.info["training"]
    rows = {
        "data": data.get("title") or data["name"],
        "recordings": "synthetic, no recordings" if data["synthetic"] else "real recordings",
        "classes": ", ".join(data.get("label_classes", ())) or None,
        "training clips": data.get("n_train"),
        "features": ", ".join(f"{NAMES[k]} {model['feature_dims'][k]}" for k in MODALITIES),
        "trained by": f"`{training['command']}`" if training.get("command") else None,
    }
    return table(("", ""), [(name, value) for name, value in rows.items() if value is not None])


def dataset_id(run: hub.Run) -> str:
    """The data set of the Hub that the run was trained on, or else the name of the one that lay in a folder."""
    data = run.info["data"]
    return str(data.get("repository") or data["name"]).partition("@")[0]


def _listed(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _results(run: hub.Run, figures: Sequence[Figures]) -> list[EvalResult]:
    """One result for each figure, as the Hub's model-index has them."""
    data, found = run.info["data"], []
    for own in figures:
        for (pattern, metric), value in own.values.items():
            kind, words = METRICS[metric]
            there = "everything available" if pattern == whole(run) else f"{pattern} available"
            found.append(
                EvalResult(
                    task_type="video-classification",
                    task_name=f"{data.get('label_name', 'label').capitalize()} of a clip with modalities missing",
                    dataset_type=dataset_id(run),
                    dataset_name=data.get("title") or data["name"],
                    dataset_split=own.split,
                    dataset_args={"fingerprint": data.get("fingerprint"), "clips": own.clips},
                    metric_type=kind,
                    metric_value=round(value, 4),
                    metric_name=f"{words}, {there}",
                    metric_args={"available": pattern, "output": own.how},
                )
            )
    return found


def figure_tables(own: Figures) -> list[str]:
    """Heading, what was measured, and the table: patterns down, metrics across."""
    lines = [
        (pattern, *(f"{own.values[pattern, m]:.3f}" if (pattern, m) in own.values else "–" for m in own.metrics))
        for pattern in own.patterns
    ]
    head = ("available", *(METRICS[metric][1] for metric in own.metrics))
    return [f"## On the {own.clips} clips of the {own.split} split", f"{_LEGEND}; {own.how}.", table(head, lines)]


def data_source(run: hub.Run) -> str:
    """What `--data` is for the run's own data: its repository, `bundled`, or a folder that the reader has."""
    data = run.info["data"]
    if data.get("repository"):
        return str(data["repository"])
    known = BUNDLED.is_dir() and data.get("fingerprint") == FeatureSet.open("bundled").fingerprint
    return "bundled" if known else "DIR"


def _use(run: hub.Run, repo_id: str) -> list[str]:
    data = data_source(run)
    commands = {
        "keep a copy": f"python -m imder pull {repo_id} --out RUN",
        "measure it": f"python -m imder evaluate --run {repo_id} --data {data} --protocol fixed --out ROWS.jsonl",
    }
    if run.kind == "imder":
        page = f"python app.py --run {repo_id}"
        commands = {"watch it": page if data == "bundled" else f"{page} --data {data}"} | commands
    if command := run.info["training"].get("command"):
        commands["train it again"] = command
    lines = [(what, f"`{text}`") for what, text in commands.items()]
    code = "from imder import RecoveryPipeline\n\n" + f'pipeline = RecoveryPipeline.from_pretrained("{repo_id}"'
    code += ")" if data == "bundled" else f', data="{data}")'
    if run.kind == "imder" and run.classes:
        code = code.replace("import RecoveryPipeline", "import RecoveryPipeline, RecoveryRequest")
        code += _CLASSES_SHOWN
    if run.kind != "imder":
        code = f'from imder import hub\n\nrun = hub.load("{repo_id}", fallback=False)'
    where = " `DIR` is a folder with the data, which are not published with the run." if data == "DIR" else ""
    said = f"In a checkout of IMDer Explorer. `{repo_id}@REVISION` pins a revision.{where}"
    return ["## Use", said, table(("to", "command"), lines), f"```python\n{code}\n```"]


def limits(run: hub.Run, figures: Sequence[Figures]) -> list[str]:
    """Heading and list of what the run cannot do, from what it was trained on and measured to do."""
    data, model = run.info["data"], run.info["model"]
    title = data.get("title") or data["name"]
    widths = ", ".join(f"{NAMES[k].lower()} {model['feature_dims'][k]}" for k in MODALITIES)
    low, high = data["label_range"]
    classes = ", ".join(data.get("label_classes", ()))
    label = f"one of the classes {classes}" if classes else f"from {low:g} to {high:g}"
    said = [
        f"Trained on synthetic data ({title}): no figure here says how well it does on recordings of people."
        if data["synthetic"]
        else f"Trained on {title}; on other people, languages, situations or recordings it may do worse.",
        f"It reads features of just these widths a frame: {widths}, extracted as those of its data; no video and no "
        f"sound. It predicts {data.get('label_name', 'a label')} {label}, as its data are labelled.",
    ]
    if run.lacks:
        said.append(f"Its data have no {names_of(run.lacks)}, which it therefore neither reads nor recovers.")
    if run.kind == "imder":
        said.append(
            "What is recovered is drawn from a distribution: it is plausible given what was observed, and no record of "
            "what the person said, sounded like or looked like."
        )
    for own in figures[:1]:
        metric = "accuracy" if run.classes else "mae"
        if (worst := own.weakest(metric)) and (best := own.values.get((whole(run), metric))) is not None:
            said.append(
                f"Weakest with {worst[0]} available: {METRICS[metric][1]} {worst[1]:.2f}, {best:.2f} with everything "
                f"({own.split} split)."
            )
    clips = f" on {data['n_train']} clips" if data.get("n_train") else ""
    seed = run.info["training"].get("seed")
    said.append(
        f"One training{clips}{'' if seed is None else f', seed {seed}'}: how much another would differ is not known."
    )
    said.append("Not for decisions about a person.")
    if run.info["training"].get("command") is None:
        said.append("How it was trained is not stored with it.")
    kind = "" if run.kind == "imder" else f" It is {BASELINES[run.kind][0].title}, a model for comparison."
    return ["## Limits", kind.strip(), "\n".join(f"- {sentence}" for sentence in said)]
