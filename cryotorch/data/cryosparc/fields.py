"""The dictionary: CryoSPARC's fields, RELION's columns, and which of them tell the same."""

from __future__ import annotations

import re

import numpy as np

from cryotorch.data.optics import GROUP

NAME, MICROGRAPH = "rlnImageName", "rlnMicrographName"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst")
TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
POSITION = ("rlnCoordinateX", "rlnCoordinateY")
GROUP_NAME = "rlnOpticsGroupName"
SHIFT_PIXEL, MICROGRAPH_SHAPE = "alignments3D/psize_A", "location/micrograph_shape"
# Type, values per row (0 = one) and the value where nothing is known (None = not written).
FIELDS: dict[str, tuple[str, int, object]] = {
    "uid": ("u8", 0, None),
    "blob/path": ("S", 0, None),
    "blob/idx": ("u4", 0, None),
    "blob/shape": ("u4", 2, None),
    "blob/psize_A": ("f4", 0, None),
    "blob/sign": ("f4", 0, 1),
    "blob/import_sig": ("u8", 0, None),
    "ctf/type": ("S", 0, b"imported"),
    "ctf/exp_group_id": ("u4", 0, 0),
    "ctf/accel_kv": ("f4", 0, None),
    "ctf/cs_mm": ("f4", 0, None),
    "ctf/amp_contrast": ("f4", 0, None),
    "ctf/df1_A": ("f4", 0, None),
    "ctf/df2_A": ("f4", 0, None),
    "ctf/df_angle_rad": ("f4", 0, None),
    "ctf/phase_shift_rad": ("f4", 0, 0),
    "ctf/scale": ("f4", 0, 1),
    "ctf/scale_const": ("f4", 0, 0),
    "ctf/shift_A": ("f4", 2, 0),
    "ctf/tilt_A": ("f4", 2, 0),
    "ctf/trefoil_A": ("f4", 2, 0),
    "ctf/tetra_A": ("f4", 4, 0),
    "ctf/anisomag": ("f4", 4, 0),
    "ctf/bfactor": ("f4", 0, 0),
    "alignments3D/split": ("u4", 0, None),
    "alignments3D/shift": ("f4", 2, 0),
    "alignments3D/pose": ("f4", 3, None),
    SHIFT_PIXEL: ("f4", 0, None),
    **{
        f"alignments3D/{name}": ("f4", 0, None)
        for name in ("error", "error_min", "resid_pow", "slice_pow", "image_pow", "cross_cor")
    },
    "alignments3D/alpha": ("f4", 0, 1),
    "alignments3D/class_posterior": ("f4", 0, 1),
    "alignments3D/class": ("u4", 0, 0),
    "alignments2D/shift": ("f4", 2, None),
    "alignments2D/pose": ("f4", 0, None),
    "alignments2D/psize_A": ("f4", 0, None),
    "alignments2D/class": ("u4", 0, None),
    "location/micrograph_path": ("S", 0, None),
    MICROGRAPH_SHAPE: ("u4", 2, None),
    "location/center_x_frac": ("f4", 0, None),
    "location/center_y_frac": ("f4", 0, None),
}
# Without these there are no particles, or none with a CTF.
IMAGE_FIELDS = ("blob/path", "blob/idx", "blob/psize_A")
LENS_FIELDS = ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast")
DEFOCUS_FIELDS = ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")
NEEDED_FIELDS = (*IMAGE_FIELDS, *LENS_FIELDS, *DEFOCUS_FIELDS)
# The field that tells what a column tells.
OF_PARTICLES = {
    NAME: "blob/path",
    "rlnDefocusU": "ctf/df1_A",
    "rlnDefocusV": "ctf/df2_A",
    "rlnDefocusAngle": "ctf/df_angle_rad",
    "rlnPhaseShift": "ctf/phase_shift_rad",
    GROUP: "ctf/exp_group_id",
    **dict.fromkeys(ANGLES, "alignments3D/pose"),
    **dict.fromkeys(ORIGINS, "alignments3D/shift"),
    "rlnRandomSubset": "alignments3D/split",
    "rlnClassNumber": "alignments3D/class",
    "cryotorchScale": "alignments3D/alpha",
    MICROGRAPH: "location/micrograph_path",
    **dict.fromkeys(POSITION, "location/center_x_frac"),
}
# Where a particle has been aligned to 2D classes only.
OF_2D = {
    "rlnAnglePsi": "alignments2D/pose",
    **dict.fromkeys(ORIGINS, "alignments2D/shift"),
    "rlnClassNumber": "alignments2D/class",
}
OF_OPTICS = {
    GROUP: "ctf/exp_group_id",
    GROUP_NAME: "ctf/exp_group_id",
    "rlnVoltage": "ctf/accel_kv",
    "rlnSphericalAberration": "ctf/cs_mm",
    "rlnAmplitudeContrast": "ctf/amp_contrast",
    "rlnImagePixelSize": "blob/psize_A",
    "rlnImageSize": "blob/shape",
    "rlnImageDimensionality": "blob/path",
    **dict.fromkeys(TILT, "ctf/tilt_A"),
    **dict.fromkeys(MAGNIFICATION, "ctf/anisomag"),
}
# Fields of other families, such as pick_stats, are carried along, which is told.
FAMILIES = ("blob", "ctf", "alignments3D", "location", "sym_expand")
# Columns that say nothing when all their values are these.
NEUTRAL = {"rlnPhaseShift": 0, "rlnClassNumber": 1, "cryotorchScale": 1}
KINDS = {"S": ("S", "text"), "f": ("fiu", "number"), "u": ("iu", "whole number")}


def in_fields(text: str) -> str:
    """A sentence with the names of fields in the places of the columns that they became."""
    words = {**OF_OPTICS, **OF_PARTICLES}
    return re.sub(r"(?<![/\w])_((?:rln|cryotorch)\w+)", lambda m: words.get(m[1], m[0]), text)


def plain_names(groups: int) -> list[str]:
    """What optics groups are called that came without a name."""
    return [f"opticsGroup{i + 1}" for i in range(groups)]


def default(name: str, n: int) -> np.ndarray | None:
    """n rows, (n,) or (n, k), of a field of which nothing is known; None where it has to be known."""
    kind, width, value = FIELDS.get(name, ("", 0, None))
    if value is None:
        return None
    return np.full((n, width) if width else n, value, None if kind == "S" else kind)


def is_of_kind(name: str, kind: str, shape: tuple[int, ...]) -> bool:
    """Whether a field of that name may hold NumPy's kind of values, ``shape`` in each row; an unknown field may."""
    if name not in FIELDS:
        return True
    meant, width, _ = FIELDS[name]
    return kind in KINDS[meant[0]][0] and shape == ((width,) if width else ())


def is_printable(values: np.ndarray) -> bool:
    """Whether there are no control characters in text (n,)."""
    width = values.dtype.itemsize
    if not width or not len(values):
        return True
    codes = np.ascontiguousarray(values).view(np.uint8).reshape(-1, width)
    ends = codes == 0
    return not ((codes < 32) & ~ends).any() and not (ends[:, :-1] & ~ends[:, 1:]).any()
