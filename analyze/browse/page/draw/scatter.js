"use strict";
/** The map's pointer and keys: pan, zoom, point at a latent, draw a lasso. */
Page.scatter = (() => {
  const { h } = Page.dom;
  const STEP = 40; // pixels that an arrow key moves
  const LABEL = "Map of latents. Arrow keys move, plus and minus zoom, Escape resets. The list holds the same latents.";

  /**
   * @param {{x: Float32Array, y: Float32Array, latents: Uint32Array}} points in 0..1
   * @param {object} use
   * @param {(latent: number) => boolean} use.kept whether a latent answers the question
   * @param {(latent: number) => string} use.hue the property with its colour
   * @param {(latent: number) => string} use.title
   * @param {number[]} use.order places of the points, those first that are to be named
   * @param {number[][]} use.lasso corners
   * @param {{scale: number, x: number, y: number}} use.view
   * @param {(latent: number|null) => void} use.hover
   * @param {(latent: number) => void} use.open
   * @param {(corners: number[][]) => void} use.chosen
   * @param {(view: {scale: number, x: number, y: number}) => void} use.moved
   */
  function create(points, use) {
    const canvas = h("canvas.scatter", { tabindex: 0, role: "application", "aria-label": LABEL });
    const plane = Page.plane.create(canvas, points, use.view);
    const state = { tool: "pan", lasso: use.lasso, drawing: false, moved: 0, last: null, under: null };

    const draw = () => plane.paint({ ...use, under: state.under, lasso: state.lasso, closed: !state.drawing });

    function change(act) {
      act();
      draw();
      use.moved(use.view);
    }

    const zoom = (factor, place) => change(() => plane.zoom(factor, place));
    const reset = () => change(() => Object.assign(use.view, { scale: 1, x: 0, y: 0 }));

    function place(event) {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    function point(at) {
      const under = plane.nearest(at, use.kept);
      if (under === state.under) return;
      state.under = under;
      use.hover(under === null ? null : points.latents[under]);
      draw();
    }

    function drag(at) {
      const [dx, dy] = [at[0] - state.last[0], at[1] - state.last[1]];
      if (state.tool === "lasso" && Math.hypot(dx, dy) < 6) return;
      state.moved += Math.abs(dx) + Math.abs(dy);
      state.last = at;
      if (state.tool === "lasso") state.lasso.push(plane.toMap(...at));
      else plane.shift(dx, dy);
      draw();
    }

    function drop(at) {
      state.drawing = false;
      if (state.moved >= 5) {
        if (state.tool === "lasso") use.chosen(thinned(state.lasso));
        else use.moved(use.view);
      } else {
        state.lasso = use.lasso;
        const under = plane.nearest(at, use.kept);
        if (under !== null) use.open(points.latents[under]);
      }
      draw();
    }

    function press(event) {
      try {
        canvas.setPointerCapture(event.pointerId);
      } catch {
        // the pointer is gone already
      }
      Object.assign(state, { drawing: true, moved: 0, last: place(event) });
      if (state.tool === "lasso") state.lasso = [plane.toMap(...state.last)];
    }

    function key(event) {
      const steps = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] }[
        event.key
      ];
      const factor = { "+": 1.3, "=": 1.3, "-": 1 / 1.3 }[event.key];
      if (!steps && !factor) return;
      event.preventDefault();
      event.stopPropagation();
      if (steps) change(() => plane.shift(...steps));
      else zoom(factor);
    }

    function wheel(event) {
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * 0.0015), place(event));
    }

    canvas.addEventListener("wheel", wheel, { passive: false });
    canvas.addEventListener("pointerdown", press);
    canvas.addEventListener("pointermove", (event) => (state.drawing ? drag : point)(place(event)));
    canvas.addEventListener("pointerup", (event) => state.drawing && drop(place(event)));
    canvas.addEventListener("keydown", key);
    new ResizeObserver(draw).observe(canvas);

    function tool(name) {
      state.tool = name;
      canvas.dataset.tool = name;
    }

    return { element: canvas, tool, zoom, reset };
  }

  /** At most 60 corners, which an address can hold. */
  function thinned(corners) {
    const step = Math.max(1, Math.ceil(corners.length / 60));
    return corners.filter((_, i) => i % step === 0);
  }

  return { create };
})();
