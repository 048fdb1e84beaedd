"""What every number of every job may be, in one table; the settings refuse the rest, and the fuzzer tries the edges.

The limits are those beyond which a value cannot be meant, or the arithmetic has no room for it; what the data ask for on top
(a length within the box, a fraction strictly between 0 and 1) the jobs check themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryotorch.errors import InputError
from cryotorch.jobs.config.units import in_pixels, parse_length


@dataclass(frozen=True)
class Limits:
    """From ``low`` to ``high``, both allowed, in the house unit (Å, degrees), which ``unit`` says where that helps."""

    low: float
    high: float
    unit: str = ""

    def refusal(self, value: float) -> str:
        """What is wished for instead of a value, empty for one within."""
        if self.low <= value <= self.high:
            return ""
        if value <= 0 < self.low:
            return "it must be above zero"
        if value < 0 == self.low:
            return "it must not be negative"
        low, high = (f"{x:.6g}" if x != int(x) else str(int(x)) for x in (self.low, self.high))
        return f"it must be from {low} to {high}{self.unit}"


PIXELS = 1e6  # of a length that was given in pixels, either way
SEED = Limits(0, 2**63 - 1)
FRACTION = Limits(0, 1)
RESOLUTION, LENGTH = Limits(0.1, 1e5, " Å"), Limits(0, 1e5, " Å")
SIZE, DEFOCUS = Limits(0.001, 1000, " Å"), Limits(-1e6, 1e6, " Å")
PLACE = Limits(-1e6, 1e6)
COUNT, MANY = Limits(1, 10_000), Limits(1, 10**9)

# By the name as users write it; of the elements where a parameter is a list.
LIMITS = {
    "amplitude_contrast": FRACTION,
    "astigmatism": Limits(0, 1e6, " Å"),
    "batch": Limits(16, 10_000_000),
    "beam_tilt": Limits(-1000, 1000, " mrad"),
    "best": MANY,
    "bfactor": Limits(-1e4, 1e4, " Å²"),
    "box_size": Limits(8, 1_000_000, " pixels"),
    "cache_limit": Limits(1e-6, 1e9, " GB"),
    "class": Limits(0, 2**31 - 1),
    "color_range": RESOLUTION,
    "concentration": Limits(0, 1e6),
    "cone_angle": Limits(0.1, 90, " degrees"),
    "contrast": Limits(1e-6, 1e6),
    "defocus_error": Limits(0, 1e6, " Å"),
    "defocus_max": DEFOCUS,
    "defocus_min": DEFOCUS,
    "defocus_min_resolution": RESOLUTION,
    "defocus_range": Limits(1, 1e5, " Å"),
    "devices": Limits(1, 4096),
    "diameter": RESOLUTION,
    "dilate": Limits(-1e5, 1e5, " Å"),
    "epochs": Limits(1, 100),
    "erase": PLACE,
    "even_zernike": PLACE,
    "extra_final_passes": Limits(0, 10_000),
    "filter_offset": Limits(-10_000, 10_000),
    "filter_order": Limits(1, 64),
    "filter_resolution": RESOLUTION,
    "final_resolution": RESOLUTION,
    "fit_from": RESOLUTION,
    "fit_resolution": RESOLUTION,
    "fit_to": RESOLUTION,
    "fulcrum": PLACE,
    "high_pass": RESOLUTION,
    "hinge": PLACE,
    "in_plane_step": Limits(0.5, 45, " degrees"),
    "initial_resolution": RESOLUTION,
    "iterations": Limits(1, 10_000),
    "junk": Limits(0, 1),
    "junk_share": FRACTION,
    "keep": PLACE,
    "local_threshold": FRACTION,
    "low_pass": RESOLUTION,
    "magnification": Limits(-2, 2),
    "mask_diameter": RESOLUTION,
    "mask_far": LENGTH,
    "mask_near": LENGTH,
    "mask_start_resolution": RESOLUTION,
    "mask_threshold": FRACTION,
    "max_align_resolution": RESOLUTION,
    "max_iterations": COUNT,
    "max_particles": MANY,
    "max_passes": COUNT,
    "max_resolution": RESOLUTION,
    "micrograph_pixel_size": SIZE,
    "min_distance": Limits(0.1, 1e5, " Å"),
    "minibatch_size": Limits(1, 1_000_000),
    "mixture.components": Limits(2, 10),
    "mixture.keep": Limits(1, 10),
    "n_classes": Limits(1, 1000),
    "n_components": Limits(1, 10),
    "n_directions": Limits(12, 100_000),
    "n_frames": Limits(2, 200),
    "n_particles": Limits(1, 10_000_000),
    "n_repeats": Limits(1, 100),
    "n_starts": Limits(1, 100, ", or auto"),
    "n_templates": Limits(1, 1000),
    "new_pixel_size": SIZE,
    "nonuniform.filter_order": Limits(1, 64),
    "nonuniform.window": Limits(1, 100),
    "odd_zernike": PLACE,
    "optics_min_resolution": RESOLUTION,
    "padding": Limits(1, 2, ", or auto"),
    "particle_diameter": Limits(1, 1e5, " Å"),
    "passes": Limits(1, 100),
    "phantom_seed": SEED,
    "phase_shift": Limits(-360, 360, " degrees"),
    "pixel_size": SIZE,
    "prior_rotation": Limits(0, 180, " degrees"),
    "prior_shift": LENGTH,
    "random": MANY,
    "randomize_below": Limits(0.01, 1e5),
    "recenter": Limits(-1e6, 1e6, " Å"),
    "resolution": RESOLUTION,
    "restack_size": MANY,
    "rotate": Limits(-1e6, 1e6, " degrees"),
    "rotation_extent": Limits(0, 180, " degrees"),
    "sampling_radius": Limits(1, 10_000, " Fourier pixels"),
    "scale_sigma": Limits(0, 10),
    "scale_start_iteration": Limits(0, 1_000_000),
    "search.candidates": Limits(1, 100_000),
    "search.coarse_limit": Limits(1, 1000, " Fourier pixels"),
    "search.grid_step": Limits(0.1, 90, " degrees"),
    "search.newton_steps": Limits(1, 1000),
    "search.shift_extent": RESOLUTION,
    "second_body_rotation": Limits(0, 90, " degrees"),
    "second_body_share": FRACTION,
    "second_body_shift": LENGTH,
    "second_body_size": Limits(0.3, 1),
    "second_species_share": FRACTION,
    "seed": SEED,
    "segment.labels": Limits(0, 2**31 - 1),
    "segment.min_volume": Limits(1e-6, 1e15, " Å³"),
    "segment.points": PLACE,
    "segment.scale": RESOLUTION,
    "select": Limits(1, 1000),
    "shared_resolution": RESOLUTION,
    "shift": Limits(-1e6, 1e6, " Å"),
    "shift_extent": LENGTH,
    "shift_sigma": LENGTH,
    "similarity": FRACTION,
    "snr": Limits(1e-9, 1e6),
    "soften": LENGTH,
    "spherical_aberration": Limits(-100, 100, " mm"),
    "sphere_edge": LENGTH,
    "split": Limits(1, 1000),
    "split_resolution": RESOLUTION,
    "threshold": Limits(-1e15, 1e15),
    "trainer.devices": Limits(-1, 4096),
    "trainer.num_nodes": COUNT,
    "views.most": MANY,
    "views.spacing": Limits(4, 90, " degrees"),
    "voltage_kv": Limits(1, 10_000, " kV"),
    "window_inner": FRACTION,
    "window_outer": FRACTION,
}


def check(name: str, value: object, shown: str) -> None:
    """Raises InputError ``<name>=<shown> cannot be used: <requirement>`` where a number, or one of a list, is out of its limits.

    A length in pixels is held to its sign and ``PIXELS`` here, and to its limits once it is in Å.
    """
    limits = LIMITS.get(name)
    for number, pixels in _numbers(value) if limits is not None else ():
        if pixels:
            least = 1e-3 if limits.low > 0 else 0.0 if limits.low == 0 else -PIXELS
            requirement = Limits(least, PIXELS, " pixels").refusal(number)
        else:
            requirement = limits.refusal(number)
        if requirement:
            raise InputError(f"{name}={shown} cannot be used: {requirement}")


def _numbers(value: object) -> Iterator[tuple[float, bool]]:
    """The numbers of a value, and whether each counts pixels."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value, False
    elif isinstance(value, str) and in_pixels(value):
        yield parse_length(value, 1.0), True
