"""From the recipe's words to the pipeline's values; each engine's library is imported when a recipe names it."""

import numpy as np

from flows.recipe import Density, DftDensity, GaussianDensity, Recipe, RecipeError, SadDensity
from pipeline.elements import NUMBERS
from pipeline.engines.protocol import Engine
from pipeline.failures import UnsupportedElement
from pipeline.sample import Fields

COMMON_ELEMENTS = (1, 6, 7, 8, 14)


def build_engine(density: Density) -> Engine:
    """The engine that one [densities.NAME] table asks for."""
    if isinstance(density, GaussianDensity):
        from pipeline.engines.gaussian import GaussianEngine

        return GaussianEngine(density.exponent)
    if isinstance(density, SadDensity):
        from pipeline.engines.sad import SadEngine

        return SadEngine(density.variant, density.basis, density.pseudopotential)
    if isinstance(density, DftDensity):
        from pipeline.engines.dft import DftEngine

        return DftEngine(density.functional, density.basis, density.pseudopotential)
    from pipeline.engines.xtb import XtbEngine

    return XtbEngine(density.engine, density.library)


def build_engines(recipe: Recipe) -> dict[str, Engine]:
    """By density name. Raises RecipeError where an engine refuses its settings, or serves no element with them."""
    engines = {}
    for name, density in recipe.densities.items():
        try:
            engines[name] = build_engine(density)
            _find_element(engines[name])
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
        round_to=recipe.store.round_to,
    )
