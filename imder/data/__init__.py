"""Clips and batches, data set folders, missing protocols; the bundled corpus is built in `imder.data.corpus`."""

from imder.data.clip import Batch, Clip, Word, collate, resample
from imder.data.dataset import FeatureSet, write_feature_set
from imder.data.missing import BatchwiseMissing, FixedMissing, RandomMissing, UnequalMissing
from imder.data.standardise import Standardiser

__all__ = [
    "Batch",
    "BatchwiseMissing",
    "Clip",
    "FeatureSet",
    "FixedMissing",
    "RandomMissing",
    "Standardiser",
    "UnequalMissing",
    "Word",
    "collate",
    "resample",
    "write_feature_set",
]
