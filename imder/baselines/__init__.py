"""What IMDer is compared with: models trained for missing modalities, and fills without a model."""

from imder.baselines.fusion import DropoutFusion, FusionConfig, SubsetFusion
from imder.baselines.gcnet import GCNet, GCNetConfig
from imder.baselines.mmin import MMIN, MMINConfig
from imder.baselines.recognizer import BaselineConfig, Prediction, Recognizer, probe

#: The baselines by the name that runs, rows and the command line use, each with its configuration.
BASELINES: dict[str, tuple[type[Recognizer], type[BaselineConfig]]] = {
    "mmin": (MMIN, MMINConfig),
    "gcnet": (GCNet, GCNetConfig),
    "dropout-fusion": (DropoutFusion, FusionConfig),
    "subset": (SubsetFusion, FusionConfig),
}

__all__ = ["BASELINES", "BaselineConfig", "Prediction", "Recognizer", "probe"]
