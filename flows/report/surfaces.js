// The two menus above the surfaces: which molecule, which field.
(() => {
  const read = id => JSON.parse(document.getElementById(id).textContent);
  const samples = read("surface-traces"), layout = read("surface-layout");
  const molecule = document.getElementById("surface-molecule"), field = document.getElementById("surface-field");
  const caption = document.getElementById("surface-caption");
  const draw = () => {
    const sample = samples[molecule.value], chosen = sample.fields[field.value];
    caption.textContent = chosen.caption + (chosen.traces.length ? "" : ": no cell reaches this value");
    Plotly.react("surface-stage", sample.atoms.concat(chosen.traces), layout, {displayModeBar: false, responsive: true});
  };
  molecule.addEventListener("change", draw);
  field.addEventListener("change", draw);
  draw();
})();
