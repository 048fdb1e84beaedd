"""The twenty functions that results depend on most, their tests, and edits that change nothing."""

from __future__ import annotations

from typing import NamedTuple

from mutation.edits import Edit


class Core(NamedTuple):
    """A public function and the private parts of its file that make its result.

    Attributes:
        file: below cryotorch/ops, without ending; functions: the first one names the row.
        tests: files below tests, those that find most first: the first failure ends a trial.
    """

    file: str
    functions: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.file.rpartition("/")[2]

    @property
    def name(self) -> str:
        return f"{self.module}.{self.functions[0]}"

    @property
    def path(self) -> str:
        return f"cryotorch/ops/{self.file}.py"


def _core(file: str, functions: str, tests: str) -> Core:
    files = tuple(f"tests/{name}.py" for name in tests.split())
    return Core(file, tuple(functions.split()), files)


CORE = [
    _core("ctf/transfer", "contrast_transfer wavelength delocalisation", "ops/ctf/test_transfer"),
    _core(
        "ctf/aberrations",
        "antisymmetric_phase symmetric_phase zernike even_order odd_order _sum",
        "ops/ctf/test_aberrations",
    ),
    _core(
        "fourier/image_model",
        "predict backproject_terms project",
        "ops/fourier/test_image_model",
    ),
    _core(
        "fourier/transforms",
        "pack unpack _half_plane HalfPlane.count shift_phase",
        "ops/fourier/test_transforms ops/fourier/test_image_model",
    ),
    _core(
        "fourier/transforms",
        "shell_sum _volume_shells _shell_count multiply_radial_ wave_numbers",
        "ops/fourier/test_transforms ops/resolution/test_fsc ops/fourier/test_filters",
    ),
    _core(
        "fourier/transforms",
        "resize_volume resize_images _resize _crop_lines",
        "ops/fourier/test_transforms",
    ),
    _core(
        "fourier/slices", "projector gridding_line gridding_correction", "ops/fourier/test_slices"
    ),
    _core(
        "fourier/slices",
        "slices_with_gradient corner_indices _corners sample slice_coordinates of_each",
        "ops/fourier/test_slices ops/fourier/test_slices_cpu",
    ),
    _core(
        "fourier/slices",
        "dense add_slices_ insert_spread_ accumulator merge_ grid_to_volume",
        "ops/fourier/test_slices ops/fourier/test_reconstruct ops/fourier/test_insertion_cpu",
    ),
    _core(
        "fourier/slices_cpu",
        "_slices locate _gather",
        "ops/fourier/test_slices_cpu",
    ),
    _core("fourier/insertion_cpu", "_insert insert_", "ops/fourier/test_insertion_cpu"),
    _core(
        "fourier/slices_cpu",
        "_products _interpolate phase_line _ascend _solve _turn",
        "ops/fourier/test_slices_cpu refinement/pose_search/test_search",
    ),
    _core(
        "pose/scores",
        "grid_scores grid_correlations _cross_terms templates shift_scores gram_of_tensors",
        "ops/pose/test_scores ops/fourier/test_slices_cpu",
    ),
    _core(
        "geometry/symmetry",
        "point_group _turn _closure cosets in_asymmetric_unit",
        "ops/geometry/test_symmetry",
    ),
    _core("fourier/reconstruct", "within collect", "ops/fourier/test_reconstruct"),
    _core(
        "fourier/symmetrise",
        "symmetrise_ cubic_weights _to_table _from_table_ _add_copies",
        "ops/fourier/test_symmetrise",
    ),
    _core(
        "fourier/reconstruct",
        "solve _quotient shell_mean_weight compensation _smooth",
        "ops/fourier/test_reconstruct",
    ),
    _core(
        "resolution/fsc",
        "corrected_fsc correct_for_mask shell_correlation _correlate _real_product _randomised "
        "_random_turns",
        "ops/resolution/test_fsc",
    ),
    _core(
        "resolution/fsc",
        "claimed_shell shown_together _first_below crossing_shell first_randomised_shell RANDOMISE_BELOW "
        "NEXT_TO_ONSET FEW_NUMBERS JOINT NEXT_TO_SPLIT",
        "ops/resolution/test_fsc ops/resolution/test_significance",
    ),
    _core(
        "resolution/significance",
        "independent_numbers noise_band shell_overlap _lens _by_distance _with_radius ERRORS",
        "ops/resolution/test_significance",
    ),
    _core(
        "geometry/rotations",
        "euler_to_matrix matrix_to_euler from_rotation_vector to_rotation_vector _to_quaternion "
        "rotation_angle",
        "ops/geometry/test_rotations",
    ),
    _core(
        "fourier/filters",
        "sharpen low_pass_gain fsc_weight guinier_fit",
        "ops/fourier/test_filters",
    ),
]


class Same(NamedTuple):
    """Edits that change no result but by rounding.

    Attributes:
        before, after: what is edited; after None = whatever it becomes.
        statement: how the statement around it begins.
    """

    function: str
    before: str
    after: str | None
    reason: str
    statement: str = ""

    def says(self, module: str, edit: Edit) -> bool:
        """Whether an edit of a module is meant."""
        return (
            self.function == f"{module}.{edit.function}"
            and self.before == edit.before
            and self.after in (None, edit.after)
            and edit.statement.startswith(self.statement)
        )


BLOCK = "How much is done at once changes no result."
TOLERANCE = "A tolerance of rounding, far from any value that is met."
NO_ZERO = "Keeps a division from zero that is not used, or a logarithm; the size does not matter."
LONGER = "What is made longer is cut again, or never read."
RATIO = "torch.where(rest > 0.001, (masked - randomised) / rest.clamp(min=0.001), 0.0)"
SAME = [
    Same(
        "transfer.contrast_transfer",
        "defocus.double().unbind(-1)",
        "defocus.double().unbind(1)",
        "Of two dimensions the last is number 1.",
    ),
    Same("transforms.shell_sum", "box // 2", "box * 2", LONGER, "bins ="),
    Same("transforms._half_plane", "ky > 0", "ky >= 0", "Where both are zero the radius is."),
    Same("transforms._half_plane", "box / 2 - 0.0001", "box / 2 - 0.0002", TOLERANCE),
    Same("transforms.HalfPlane.count", "float(limit) + 0.0001", "float(limit) + 0.0002", TOLERANCE),
    Same("transforms._resize", "new // 2", "new * 2", LONGER, "out = transform.new_zeros"),
    Same("transforms._resize", "new // 2 + 1", "new // 2 + 2", LONGER, "out = transform.new_zeros"),
    Same("slices.projector", "padded // 2", "padded * 2", LONGER, "reach ="),
    Same("slices.projector", "math.ceil", "math.floor", "The table's margin is one row wide."),
    Same(
        "slices.corner_indices",
        "coordinate * sign[..., None, :]",
        "coordinate / sign[..., None, :]",
        "By 1 or -1.",
    ),
    Same("slices.add_slices_", "spectrum.imag * sign", "spectrum.imag / sign", "By 1 or -1."),
    Same("scores.grid_scores", "block=4096", None, BLOCK),
    Same("scores.grid_correlations", "block=4096", None, BLOCK),
    Same("symmetry.point_group", "(1, 0, 0)", "(2, 0, 0)", "An axis of any length."),
    Same("symmetry.point_group", "(0, 0, 1)", "(0, 0, 2)", "An axis of any length."),
    Same("symmetry._closure", "len(group) <= most", "len(group) < most", "No group is so large."),
    Same("symmetry._closure", "most=2000", "most=2001", "No group is so large."),
    Same("symmetry._closure", "most=2000", "most=4000", "No group is so large."),
    Same(
        "symmetry._closure",
        "(known - product).abs().amax((1, 2)).min() > 1e-06",
        "(known - product).abs().amax((1, 2)).min() > 2e-06",
        TOLERANCE,
    ),
    Same(
        "symmetry._closure",
        "(known - product).abs().amax((1, 2)).min() > 1e-06",
        "(known - product).abs().amax((1, 2)).min() >= 1e-06",
        TOLERANCE,
    ),
    Same("reconstruct.solve", "floor=0.001, rounds=0", "floor=0.002, rounds=0", "A choice."),
    Same("rotations.from_rotation_vector", "angle2 < 1e-06", "angle2 <= 1e-06", TOLERANCE),
    Same("rotations.from_rotation_vector", "angle2 < 1e-06", "angle2 < 2e-06", TOLERANCE),
    Same(
        "rotations.from_rotation_vector",
        "angle2.clamp_min(1e-24)",
        "angle2.clamp_min(2e-24)",
        NO_ZERO,
    ),
    Same("rotations.matrix_to_euler", "sin_tilt < 1e-07", "sin_tilt <= 1e-07", TOLERANCE),
    Same("rotations.matrix_to_euler", "sin_tilt < 1e-07", "sin_tilt < 2e-07", TOLERANCE),
    Same("rotations.to_rotation_vector", "norm.clamp_min(1e-12)", "norm.clamp_min(0.0)", NO_ZERO),
    Same("rotations.to_rotation_vector", "norm.clamp_min(1e-12)", "norm.clamp_min(2e-12)", NO_ZERO),
    Same(
        "rotations._to_quaternion",
        "q / q.norm(dim=-1, keepdim=True)",
        None,
        "The rotation vector is made of ratios of the four numbers.",
    ),
    Same("filters.guinier_fit", "last + 1e-06", "last + 2e-06", TOLERANCE),
    Same("filters.guinier_fit", "first - 1e-06", "first - 2e-06", TOLERANCE),
    Same("fsc.correct_for_mask", "rest.clamp(min=0.001)", "rest.clamp(min=0.0)", NO_ZERO),
    Same(
        "fsc.correct_for_mask",
        f"{RATIO}.clamp(-1, 1)",
        f"{RATIO}.clamp(-1, 2)",
        "Of a correlation of at most 1 it is at most 1.",
    ),
    Same("fsc._random_turns", "n // 8 + 1", "n // 8 + 2", LONGER),
    Same("fsc._correlate", "power.sqrt().clamp(min=1e-300)", None, NO_ZERO),
    Same("fsc.shown_together", "band[known][seen].clamp_min(1e-06)", None, NO_ZERO),
    Same("significance._lens", "q <= a - b", "q < a - b", "Both cases are the same there."),
    Same("significance._lens", "q >= a + b", "q > a + b", "Both cases are the same there."),
    Same("significance._lens", "distance.clamp_min(1e-09)", "distance.clamp_min(2e-09)", NO_ZERO),
    Same("significance._lens", "distance.clamp_min(1e-09)", "distance.clamp_min(0.0)", NO_ZERO),
]


def is_same(module: str, edit: Edit) -> bool:
    return any(same.says(module, edit) for same in SAME)
