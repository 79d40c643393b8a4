"use strict";
// Draws the structures of the page. All text from the search arrives as JSON and is only ever used as text.
(() => {
  const structures = JSON.parse(document.getElementById("structures").textContent);
  // Browsers keep about sixteen WebGL contexts; the viewers used least recently give theirs back.
  const LIVE = Number(document.body.dataset.live);
  const live = new Map();

  const EDGES = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];
  const corners = (lattice) => [0, 1, 2, 3, 4, 5, 6, 7].map((corner) => {
    const at = [0, 1, 2].map((axis) => lattice.reduce((sum, row, k) => sum + ((corner >> k) & 1) * row[axis], 0));
    return { x: at[0], y: at[1], z: at[2] };
  });

  function show(viewer, cell) {
    viewer.removeAllModels();
    viewer.removeAllShapes();
    viewer.removeAllLabels();
    const model = viewer.addModel(cell.xyz, "xyz");
    model.setStyle({}, { sphere: { scale: 0.3, colorscheme: "Jmol" }, stick: { radius: 0.08, colorscheme: "Jmol" } });
    const points = corners(cell.lattice);
    for (const [from, to] of EDGES) viewer.addLine({ start: points[from], end: points[to], color: "black" });
    ["a", "b", "c"].forEach((name, k) => viewer.addLabel(name, {
      position: points[1 << k], fontSize: 14, fontColor: "black", showBackground: false, inFront: true,
    }));
    viewer.zoomTo();
    viewer.rotate(-75, "x");
    viewer.rotate(-15, "y");
    viewer.render();
    return model.selectedAtoms({}).length;
  }

  function release(box) {
    live.delete(box);
    const canvas = box.querySelector("canvas");
    const context = canvas && (canvas.getContext("webgl2") || canvas.getContext("webgl"));
    const extension = context && context.getExtension("WEBGL_lose_context");
    if (extension) extension.loseContext();
    box.replaceChildren();
    delete box.dataset.atoms;
  }

  function open(box) {
    if (live.has(box)) {
      const viewer = live.get(box);
      live.delete(box);
      live.set(box, viewer); // the last one in the order is the one used most recently
      return;
    }
    while (live.size >= LIVE) release(live.keys().next().value);
    try {
      const viewer = window.$3Dmol.createViewer(box, { backgroundColor: "white" });
      if (!viewer) throw new Error("this browser offers no WebGL");
      live.set(box, viewer);
      draw(box);
    } catch (error) {
      box.replaceChildren();
      box.textContent = "The structure cannot be drawn: " + error.message;
      box.dataset.failed = "yes";
    }
  }

  function draw(box) {
    const wanted = box.dataset.cell || "relaxed";
    box.dataset.atoms = String(show(live.get(box), structures[Number(box.dataset.structure)][wanted]));
    box.dataset.shown = wanted;
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) open(entry.target);
  });
  for (const box of document.querySelectorAll(".viewer")) seen.observe(box);

  for (const button of document.querySelectorAll("button[data-cell]")) {
    button.addEventListener("click", () => {
      const box = button.closest(".card").querySelector(".viewer");
      box.dataset.cell = button.dataset.cell;
      open(box);
      if (live.has(box)) draw(box);
    });
  }
})();
