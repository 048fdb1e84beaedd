"""cryotorch from Python: tensors, ``Particles`` and typed results in and out, and no file unless it is asked for.

Keyword arguments are the parameters of the job of the same name, with the names, defaults and units of its YAML file, where a nested
name takes two underscores (``search__candidates=4``); ``parameters("homo_refine")`` lists them. Lengths are in Å, angles in degrees.
A map is given as a file, a ``Map``, or a tensor (d, d, d) with ``pixel_size``. What cannot be used raises ``InputError``, one sentence
with a remedy. Results have ``save(folder)``, which writes their maps, curves, particles and summary as the job does.
"""

from __future__ import annotations

from cryotorch.api.classes import Classes, class2d
from cryotorch.api.classes3d import MapClasses, classify
from cryotorch.api.data import (
    read_images,
    read_map,
    read_particles,
    write_map,
    write_particles,
)
from cryotorch.api.fit import FitResult, fit_map
from cryotorch.api.initial_map import InitialMaps, ab_initio
from cryotorch.api.inputs import Map, parameters
from cryotorch.api.maps import (
    FscResult,
    LocalResolutionResult,
    OrientationResult,
    SharpenResult,
    diagnose_orientations,
    fsc,
    local_resolution,
    make_mask,
    sharpen,
)
from cryotorch.api.particles import (
    Reconstruction,
    Refined,
    Simulated,
    local_refine,
    reconstruct,
    refine,
    simulate,
)
from cryotorch.api.projection import project
from cryotorch.api.searched_classes import hetero_refine
from cryotorch.api.selection import SelectedParticles, select_particles
from cryotorch.api.subtraction import Subtracted, subtract
from cryotorch.api.variability import Variability, variability
from cryotorch.data.particle_file import ParticleFile
from cryotorch.errors import InputError
from cryotorch.particles import Optics, Particles

__all__ = [
    "Classes",
    "FitResult",
    "FscResult",
    "InitialMaps",
    "InputError",
    "LocalResolutionResult",
    "Map",
    "MapClasses",
    "Optics",
    "OrientationResult",
    "ParticleFile",
    "Particles",
    "Reconstruction",
    "Refined",
    "SelectedParticles",
    "SharpenResult",
    "Simulated",
    "Subtracted",
    "Variability",
    "ab_initio",
    "class2d",
    "classify",
    "diagnose_orientations",
    "fit_map",
    "fsc",
    "hetero_refine",
    "local_refine",
    "local_resolution",
    "make_mask",
    "parameters",
    "project",
    "read_images",
    "read_map",
    "read_particles",
    "reconstruct",
    "refine",
    "select_particles",
    "sharpen",
    "simulate",
    "subtract",
    "variability",
    "write_map",
    "write_particles",
]
