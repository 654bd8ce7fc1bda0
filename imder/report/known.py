"""Real data sets that were measured here: what each is, what its figures can and cannot show, and its commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A data set by the name that rows hold. Its files and the runs trained on it are not part of the project."""

    name: str
    title: str
    what: str
    can: tuple[str, ...]
    cannot: tuple[str, ...]
    commands: tuple[str, ...]  # from the file to the run
    classes: tuple[str, ...] = ()


RAVDESS = Known(
    name="ravdess_actors1_20",
    title="RAVDESS: acted emotion, unseen actors",
    what="Livingstone and Russo 2018 (CC BY-NC-SA 4.0), actors 1 to 20: 824 training clips of actors 1 to 14, 120 "
    "validation clips of 15 and 16, 240 test clips of 17 to 20; no actor is in two splits. Each clip says one of two "
    "neutral sentences in one of eight emotions. Voice: 50 frames of 40 log-mel bands, log F0 and voicing; face: 17 "
    "action-unit intensities and 18 presences as ONE vector a clip, its mean, which stands on all 50 frames; language: "
    "six word vectors of the sentence. The label is a class: cross-entropy in training, accuracy and F1 here.",
    can=(
        "Voice from face (`V → A`, and `LV → A` where the sentence is known) and face from voice (`A → V`, `LA → V`) "
        "of actors never seen: against mean fill (a feature error of 1 on the training clips, more on unseen actors), "
        "against draws without a condition, and by the emotion that a classifier of real clips reads out of what was "
        "recovered.",
        "Whether recovery invents: the sentence does not depend on the emotion, so what is recovered from it (`L → A`, "
        "`L → V`) must tell no emotion, which is chance, one in eight (.133 for the largest class); and draws given "
        "another clip (`given another clip`) must tell none either.",
    ),
    cannot=(
        "Anything of language: there are two sentences, and they are the same for all emotions.",
        "Anything of how a face moves: the file has its mean over the clip.",
        "Sentiment, spontaneous speech, or a figure of the paper, which reports none on these data. Emotions are "
        "acted, by four test actors: no interval is given, and one training run was made.",
    ),
    commands=(
        "python -m imder data convert ravdess_actors1_20.npz --out ravdess_actors1_20 "
        "--title 'RAVDESS, actors 1 to 20'",
        "python -m imder train --data ravdess_actors1_20 --out ravdess --preset corrected --score-updates 1000 "
        "--score-valid 125 --passes 3 --train-draws 2 --recover-epochs 8",
    ),
    classes=("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"),
)

MOSI = Known(
    name="mosi_word229",
    title="CMU-MOSI: word-aligned sequences of one validation fold",
    what="Zadeh et al. 2016 (research use): the 229 word-aligned clips of the standard validation fold, cut by video "
    "into 131 for training (6 videos), 49 for validation (2) and 49 for the test (2). Language: GloVe, 300 wide; "
    "voice: COVAREP, 74; face: FACET, 47, each z-normalised an utterance by their source; 2 to 44 words a clip, on no "
    "other time axis.",
    can=(
        "That real recordings of unequal length go through masks, training, recovery and evaluation as they are.",
        "A leak, if there were one: voice and face do not restore the sentiment when language is missing (two-class "
        "accuracy of .60 to .65 is chance on CMU-MOSI; .59 of the clips not labelled 0 are "
        "positive here), so a figure far above that would be one until proven otherwise.",
    ),
    cannot=(
        "Rank methods: 49 test clips of two speakers, 131 to train a model made for thousands; hardly a difference can "
        "be resolved.",
        "Stand beside the paper's figures on CMU-MOSI, which are of 686 test clips and of fine-tuned BERT.",
    ),
    commands=(
        "python -m imder data convert mosi_word229.npz --out mosi_word229 --title 'CMU-MOSI, word-aligned sequences'",
        "python -m imder train --data mosi_word229 --out mosi --preset corrected --score-updates 1000 "
        "--score-valid 125",
    ),
)

KNOWN = {one.name: one for one in (RAVDESS, MOSI)}
