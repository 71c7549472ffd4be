"""From the recipe's words to the pipeline's values; each engine's library is imported when a recipe names it."""

from pathlib import Path

import numpy as np

from flows.recipe import (
    Density,
    DftDensity,
    FileDensity,
    GaussianDensity,
    MapDensity,
    ModelDensity,
    PromoleculeDensity,
    Recipe,
    RecipeError,
    SadDensity,
)
from pipeline.elements import NUMBERS
from pipeline.engines.periodic_box import PeriodicBox
from pipeline.engines.protocol import DensityEngine, Engine
from pipeline.failures import UnsupportedElement
from pipeline.sample import Fields
from pipeline.units import BOHR_PER_ANGSTROM

COMMON_ELEMENTS = (1, 6, 7, 8, 14)


def build_engine(density: Density, recipe: Recipe) -> DensityEngine:
    """The engine that one [densities.NAME] table of the recipe asks for."""
    if isinstance(density, GaussianDensity):
        from pipeline.engines.gaussian import GaussianEngine

        return GaussianEngine(density.exponent, density.seconds, density.faults)
    if isinstance(density, SadDensity):
        from pipeline.engines.sad import SadEngine

        return SadEngine(density.variant, density.basis, density.pseudopotential, _periodic_box(density))
    if isinstance(density, DftDensity):
        from pipeline.engines.dft import DftEngine
        from pipeline.engines.periodic import PeriodicDftEngine

        if box := _periodic_box(density):
            return PeriodicDftEngine(density.functional, density.basis, density.pseudopotential, box)
        return DftEngine(density.functional, density.basis, density.pseudopotential)
    if isinstance(density, FileDensity):
        from pipeline.engines.file import FileEngine

        return FileEngine(Path(recipe.source.address), density.key, recipe.grid.sampling)
    if isinstance(density, MapDensity):
        from pipeline.engines.map import MapEngine

        source = recipe.source
        return MapEngine(
            source=Path(source.address),
            column=source.map,
            id=source.id,
            method=density.method,
            scale=density.scale,
            amplitudes=density.amplitudes,
            phases=density.phases,
            least_coverage=density.least_coverage,
            sampling=recipe.grid.sampling,
        )
    if isinstance(density, ModelDensity):
        from flows.prediction.model_engine import choose_model

        return choose_model(density, recipe)
    if isinstance(density, PromoleculeDensity):
        from pipeline.engines.promolecule import PromoleculeEngine

        return PromoleculeEngine(recipe.electrons, density.xtb_atoms, density.part)
    from pipeline.engines.xtb import XtbEngine

    return XtbEngine(density.engine, density.library, electrons=recipe.electrons)


def _periodic_box(density: SadDensity | DftDensity) -> PeriodicBox | None:
    """The rule of a periodic density's boxes; None where its molecules are isolated."""
    vacuum, spacing, multiple = density.vacuum_angstrom, density.mesh_spacing_angstrom, density.mesh_multiple
    if vacuum is None or spacing is None or multiple is None:
        return None
    return PeriodicBox(vacuum * BOHR_PER_ANGSTROM, spacing * BOHR_PER_ANGSTROM, multiple)


def build_engines(recipe: Recipe) -> dict[str, DensityEngine]:
    """By density name. Raises RecipeError where an engine refuses its settings, or serves no element with them."""
    engines = {}
    for name, density in recipe.densities.items():
        try:
            engines[name] = engine = build_engine(density, recipe)
            if isinstance(engine, Engine):
                _find_element(engine)
        except ValueError as error:
            raise RecipeError(f"[densities.{name}]: {error}") from error
    return engines


def _find_element(engine: Engine) -> int:
    """A common element that the engine has parameters for. Raises ValueError where there is none."""
    for number in COMMON_ELEMENTS:
        try:
            engine.basis(np.array([number]))
        except UnsupportedElement as failure:
            reason = failure
        else:
            return number
    raise ValueError(f"it serves none of the common elements ({reason})")


def choose_fields(recipe: Recipe) -> Fields:
    """Which channels the recipe asks for."""
    channels = recipe.channels
    return Fields(
        sampling=recipe.grid.sampling,
        densities=recipe.channel_densities,
        gradient_magnitude=channels.gradient_magnitude,
        atom_types=tuple(NUMBERS[symbol] for symbol in channels.atom_type_elements) if channels.atom_types else None,
        shape=channels.shape,
        shape_radius=channels.shape_radius_angstrom and channels.shape_radius_angstrom * BOHR_PER_ANGSTROM,
        round_to=recipe.store.round_to,
    )
