"""What a structure is: its attributes, its graph, its neighbours, its frame."""

from .arrays import decode, dtype_of, encode, to_numpy, to_tensor
from .frame import (
    FRAMES,
    Frame,
    FrameWarning,
    cell_map,
    frame_of_file,
    is_standard_cell,
    polar_decomposition,
    standard_form,
)
from .graph import AtomicData, build_graph, edge_vectors
from .keys import INFO_PREFIX, KEYS, SITE_PREFIX, TARGETS, Key, as_label_names, check_labels, info_key, level_of
from .neighbours import neighbour_list
from .packing import pack, unpack
from .rotation import align_to, rotate
from .skin import SkinNeighbourList
from .voigt import from_voigt, to_voigt
from .volume import cell_volume

__all__ = [
    "FRAMES",
    "INFO_PREFIX",
    "KEYS",
    "SITE_PREFIX",
    "TARGETS",
    "AtomicData",
    "Frame",
    "FrameWarning",
    "Key",
    "SkinNeighbourList",
    "align_to",
    "as_label_names",
    "build_graph",
    "cell_map",
    "cell_volume",
    "check_labels",
    "decode",
    "dtype_of",
    "edge_vectors",
    "encode",
    "frame_of_file",
    "from_voigt",
    "info_key",
    "is_standard_cell",
    "level_of",
    "neighbour_list",
    "pack",
    "polar_decomposition",
    "rotate",
    "standard_form",
    "to_numpy",
    "to_tensor",
    "to_voigt",
    "unpack",
]
