"""cryotorch: cryo-EM single-particle refinement in PyTorch.

Commands: ``cryotorch`` lists the jobs, ``cryotorch job=homo_refine --help`` explains one. Functions: ``help(cryotorch.api)``, as
``cryotorch.refine("particles.star", "initial.mrc", symmetry="C4")``.

The conventions, said once. Every module and docstring leans on this page.

Units
    Lengths in Å, angles in radians inside the package and in degrees in files, configs and logs, voltage in kV,
    spherical aberration in mm, B-factors in Å² (negative sharpens). A name that breaks the rule wears its unit
    (``tilt_deg``, ``shift_px``).
Arrays
    Volumes lie in memory as (z, y, x), images as (y, x); vectors are written (x, y, z) and (x, y).
    The origin of a box of d pixels is pixel d // 2 in every direction.
Rotations
    A rotation matrix R takes the reference frame to the particle frame: x_particle = R x_reference. It is
    RELION's ``Euler_angles2matrix(rot, tilt, psi)``. The projection is along the particle's z axis, so the image's
    transform at k = (kx, ky) is the volume's transform at R^T (kx, ky, 0).
Shifts
    A shift s is RELION's ``rlnOriginX/YAngst``: moving the image by +s centres the particle; the particle sits at -s
    from the image's origin. In Fourier space the prediction carries exp(+2 pi i k.s).
Fourier transforms
    NumPy's sign, exp(-2 pi i k.x). Images in Fourier space are *packed half planes* (see ``ops.fourier.transforms``):
    coefficients with 0 < |k| < d/2 in order of increasing |k|, each +k/-k pair once, orthonormal: white noise of
    variance v has mean |Y(k)|^2 = v.
Contrast transfer function
    CTF = +sin(chi), underfocus positive, so that protein is bright in the image where the density is positive
    (RELION's convention). Zero phase shift and k = 0 give +amplitude_contrast.
Image model
    Y(k) = scale * CTF(k) * exp(+2 pi i k.s) * slice(k), slice = the map's transform at R^T (kx, ky, 0).
Noise
    sigma2 is the mean |N(k)|^2 of a complex coefficient, per half set, optics group and shell. Scores are
    sum w (Re(conj(y) f) - |f|^2 / 2) with w = 1 / sigma2; a log-likelihood is twice a score.
Shells
    Shell s holds the Fourier voxels with round(|k|) = s; its resolution is d * pixel_size / s.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from cryotorch.version import __version__ as __version__

if TYPE_CHECKING:  # the public names stand in cryotorch/api/__init__.py
    from cryotorch.api import *  # noqa: F403
else:

    def __getattr__(name):
        """The functions of ``cryotorch.api``, imported when the first of them is asked for: torch takes a second."""
        if name == "__all__":
            return ["__version__", *importlib.import_module("cryotorch.api").__all__]
        hidden = name.startswith("_") or importlib.util.find_spec(f"{__name__}.{name}")
        if not hidden:
            api = importlib.import_module("cryotorch.api")
            if name in api.__all__:
                return getattr(api, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__getattr__("__all__")})
