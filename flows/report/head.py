"""The top of a page: what the dataset is, in one sentence and in numbers."""

from html import escape
from pathlib import Path

from flows.recipe import (
    Density,
    DftDensity,
    FileDensity,
    GaussianDensity,
    MapDensity,
    ModelDensity,
    PromoleculeDensity,
    Recipe,
    SadDensity,
)
from flows.report.html import facts, paragraph
from flows.report.tally import Tally


def head(tally: Tally) -> str:
    status = tally.status
    seal, words = ("sealed", "sealed") if status.sealed else ("unsealed", "not sealed yet")
    counts = {
        "rows": f"{status.rows:,}",
        "done": f"{status.done:,}",
        "failed": f"{sum(status.failed.values()):,}",
        **({"missing": f"{status.missing:,}"} if status.missing else {}),
        "samples": f"{len(tally.ok):,}",
        **{split: f"{tally.splits[split]:,} samples" for split in ("train", "validation", "test")},
    }
    return (
        '<header><p class="kicker">rhoflow dataset</p>'
        f'<h1>{escape(tally.name)} <span class="seal {seal}">{words}</span></h1>'
        f"{paragraph(describe(tally.recipe), 'lead')}{facts(counts)}</header>"
    )


def describe(recipe: Recipe) -> str:
    """One sentence: what the dataset is."""
    kind = "Valence-electron" if recipe.electrons == "valence" else "All-electron"
    densities = " and ".join(f"{name} ({_describe_density(recipe, name)})" for name in recipe.densities)
    sampling = "exact averages over cells" if recipe.grid.sampling == "cell" else "values at the centres of cells"
    box = f"{recipe.grid.spacing_angstrom:g} Å with at least {recipe.grid.margin_angstrom:g} Å around the atoms"
    if recipe.grid.box == "file":
        box = "the grids of their files"
    source = recipe.source.path.name if recipe.source.path else "QM9"
    return f"{kind} densities of molecules from {source}: {densities}, stored as {sampling} of {box}."


def _describe_density(recipe: Recipe, name: str) -> str:
    density = recipe.densities[name]
    if getattr(density, "boundary", "open") == "periodic":
        return f"{_describe_method(density)}, in a periodic box"
    return _describe_method(density)


def _describe_method(density: Density) -> str:
    if isinstance(density, DftDensity):
        core = "" if density.pseudopotential == "none" else f", {density.pseudopotential} pseudopotentials"
        return f"DFT, {density.functional}/{density.basis}{core}"
    if isinstance(density, SadDensity):
        return f"superposed atoms, {density.variant}"
    if isinstance(density, GaussianDensity):
        return f"a Gaussian on every atom, exponent {density.exponent:g}/bohr²"
    if isinstance(density, FileDensity):
        return "from its file"
    if isinstance(density, PromoleculeDensity):
        ligand = f", GFN2-xTB for ligands of at most {density.xtb_atoms} atoms" if density.xtb_atoms else ""
        return f"spherical atoms (promolecule){ligand}"
    if isinstance(density, MapDensity):
        return density.about
    if isinstance(density, ModelDensity):
        return f"what the model {Path(density.model).name} makes of {density.input}"
    return f"{density.engine.upper()}-xTB by {density.library}"
