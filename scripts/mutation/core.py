"""The twenty functions that results depend on most, their tests, and edits that change nothing."""

from __future__ import annotations

from typing import NamedTuple


class Core(NamedTuple):
    """A public function and the private parts of its file that make its result.

    Attributes:
        module: file below cryotorch/ops, without ending; functions: the first one names the row.
        tests: files below tests, those that find most first: the first failure ends a trial.
    """

    module: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.module}.{self.functions[0]}"

    @property
    def path(self) -> str:
        return f"cryotorch/ops/{self.module}.py"


def _core(module: str, functions: str, tests: str) -> Core:
    files = tuple(f"tests/{name}.py" for name in tests.split())
    return Core(module, tuple(functions.split()), files)


CORE = [
    _core("ctf", "contrast_transfer wavelength delocalisation", "ops/test_ctf"),
    _core(
        "aberrations",
        "antisymmetric_phase symmetric_phase zernike even_order odd_order _sum",
        "ops/test_aberrations",
    ),
    _core("forward", "predict shift_phase backproject_terms project", "ops/test_forward"),
    _core("fourier", "pack unpack _half_plane HalfPlane.count", "ops/test_fourier"),
    _core(
        "fourier",
        "shell_sum _volume_shells _shell_count multiply_radial_ wave_numbers",
        "ops/test_fourier ops/test_fsc ops/test_filters",
    ),
    _core("fourier", "resize_volume resize_images _resize _crop_lines", "ops/test_fourier"),
    _core("slices", "projector gridding_line gridding_correction", "ops/test_slices"),
    _core(
        "slices",
        "slices_with_gradient corner_indices _corners sample slice_coordinates of_each",
        "ops/test_slices ops/test_kernels",
    ),
    _core(
        "slices",
        "dense add_slices_ accumulator merge_ grid_to_volume",
        "ops/test_slices ops/test_reconstruct ops/test_kernels",
    ),
    _core("kernels", "_insert _slices _locate _gather insert_", "ops/test_kernels"),
    _core(
        "kernels",
        "_products _interpolate _turns _ascend _solve _turn",
        "ops/test_kernels refine/test_search",
    ),
    _core(
        "likelihood",
        "grid_scores grid_correlations _cross_terms templates shift_scores gram_of_tensors",
        "ops/test_likelihood ops/test_kernels",
    ),
    _core("symmetry", "point_group _turn _closure in_asymmetric_unit", "ops/test_symmetry"),
    _core("reconstruct", "symmetrise within collect", "ops/test_reconstruct"),
    _core(
        "reconstruct",
        "solve _divided shell_mean_weight wiener_prior compensation _neighbourhood",
        "ops/test_reconstruct",
    ),
    _core(
        "fsc",
        "corrected_fsc correct_for_mask shell_correlation _correlate _real_product _randomised "
        "_random_turns",
        "ops/test_fsc",
    ),
    _core(
        "fsc",
        "claimed_shell _first_below crossing_shell first_randomised_shell RANDOMISE_BELOW "
        "NEXT_TO_ONSET FEW_NUMBERS JOINT NEXT_TO_SPLIT",
        "ops/test_fsc ops/test_significance",
    ),
    _core(
        "significance",
        "independent_numbers noise_band shell_overlap _lens _by_distance _with_radius ERRORS",
        "ops/test_significance",
    ),
    _core(
        "rotations",
        "euler_to_matrix matrix_to_euler from_rotation_vector to_rotation_vector _to_quaternion "
        "rotation_angle",
        "ops/test_rotations",
    ),
    _core("filters", "sharpen low_pass_gain fsc_weight guinier_fit", "ops/test_filters"),
]


class Same(NamedTuple):
    """Edits that change no result but by rounding; ``after`` None = whatever ``before`` becomes."""

    function: str
    before: str
    after: str | None
    reason: str


SAME: list[Same] = []


def is_same(module: str, function: str, before: str, after: str) -> bool:
    return any(
        same.function == f"{module}.{function}"
        and same.before == before
        and same.after in (None, after)
        for same in SAME
    )
