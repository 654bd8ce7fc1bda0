"""The score as a field of arrows in a plane: the learned one on a slice, and a toy whose true field is known."""

from imder.field.learned import FieldEnd, FieldPaths, FieldProgress, FieldRequest, FieldStart, PlaneSlice, stream_field
from imder.field.picture import Arrows, Picture, grid, log_density, relative_density
from imder.field.toy import PAIRS, TOYS, Toy, ToyField, ToyRequest, draw_toy

__all__ = [
    "PAIRS",
    "TOYS",
    "Arrows",
    "FieldEnd",
    "FieldPaths",
    "FieldProgress",
    "FieldRequest",
    "FieldStart",
    "Picture",
    "PlaneSlice",
    "Toy",
    "ToyField",
    "ToyRequest",
    "draw_toy",
    "grid",
    "log_density",
    "relative_density",
    "stream_field",
]
