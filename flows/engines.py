"""From the recipe's words to the pipeline's values; each engine's library is imported when a recipe names it."""

from flows.recipe import Density, DftDensity, GaussianDensity, Recipe, SadDensity
from pipeline.elements import NUMBERS
from pipeline.engines.protocol import Engine
from pipeline.sample import Fields


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
    """By density name."""
    return {name: build_engine(density) for name, density in recipe.densities.items()}


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
