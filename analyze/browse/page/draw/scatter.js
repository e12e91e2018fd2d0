"use strict";
/** A map of latents on a canvas: pan, zoom, hover, and a lasso. */
Page.scatter = (() => {
  const { h } = Page.dom;

  /**
   * @param {{x: Float32Array, y: Float32Array, latents: Uint32Array}} points in 0..1
   * @param {{kept: (latent: number) => boolean, hue: (latent: number) => string, lasso: number[][],
   *   hover: (latent: number|null) => void, open: (latent: number) => void, chosen: (corners: number[][]) => void}} use
   * @returns {{element: HTMLElement, tool: (name: "pan"|"lasso") => void, reset: () => void, draw: () => void}}
   */
  function create(points, use) {
    const canvas = h("canvas.scatter", {
      tabindex: 0,
      role: "application",
      "aria-label":
        "Map of latents. Arrow keys move, plus and minus zoom, Escape resets. The list holds the same latents.",
    });
    const view = { scale: 1, x: 0, y: 0 };
    const state = { tool: "pan", lasso: use.lasso, drawing: false, moved: 0, last: null, under: null };
    let [wide, tall] = [0, 0];

    const side = () => Math.min(wide, tall) - 40;
    const toScreen = (x, y) => [
      (x - 0.5 - view.x) * side() * view.scale + wide / 2,
      (0.5 - y + view.y) * side() * view.scale + tall / 2,
    ];
    const toMap = (px, py) => [
      (px - wide / 2) / (side() * view.scale) + 0.5 + view.x,
      0.5 + view.y - (py - tall / 2) / (side() * view.scale),
    ];

    function draw() {
      const box = canvas.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      [wide, tall] = [box.width, box.height];
      if (!wide) return;
      canvas.width = wide * ratio;
      canvas.height = tall * ratio;
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      const style = getComputedStyle(canvas);
      const radius = Math.min(9, Math.max(2.2, 34 / Math.sqrt(points.latents.length)) * Math.sqrt(view.scale) + 1);
      for (const pass of [false, true]) {
        for (let i = 0; i < points.latents.length; i += 1) {
          const kept = use.kept(points.latents[i]);
          if (kept !== pass) continue;
          const [x, y] = toScreen(points.x[i], points.y[i]);
          if (x < -9 || y < -9 || x > wide + 9 || y > tall + 9) continue;
          context.fillStyle = kept
            ? style.getPropertyValue(use.hue(points.latents[i]))
            : style.getPropertyValue("--line");
          context.globalAlpha = kept ? 0.82 : 0.6;
          context.beginPath();
          context.arc(x, y, kept ? radius : radius * 0.7, 0, 7);
          context.fill();
        }
      }
      context.globalAlpha = 1;
      context.strokeStyle = context.fillStyle = style.getPropertyValue("--accent");
      context.lineWidth = 2;
      if (state.under !== null) {
        context.beginPath();
        context.arc(...toScreen(points.x[state.under], points.y[state.under]), radius + 4, 0, 7);
        context.stroke();
      }
      if (state.lasso.length > 1) {
        context.beginPath();
        state.lasso.forEach(([x, y]) => context.lineTo(...toScreen(x, y)));
        if (!state.drawing) context.closePath();
        context.stroke();
        context.globalAlpha = 0.08;
        context.fill();
      }
    }

    function nearest(px, py) {
      let [best, least] = [null, 18 ** 2];
      for (let i = 0; i < points.latents.length; i += 1) {
        const [x, y] = toScreen(points.x[i], points.y[i]);
        const distance = (x - px) ** 2 + (y - py) ** 2;
        if (distance < least && use.kept(points.latents[i])) [best, least] = [i, distance];
      }
      return best;
    }

    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };

    function zoom(factor, px = wide / 2, py = tall / 2) {
      const before = toMap(px, py);
      view.scale = Math.min(60, Math.max(0.5, view.scale * factor));
      const after = toMap(px, py);
      view.x += before[0] - after[0];
      view.y += before[1] - after[1];
      draw();
    }

    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        zoom(Math.exp(-event.deltaY * 0.0015), ...place(event));
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      try {
        canvas.setPointerCapture(event.pointerId);
      } catch {
        /* a pointer that is already gone */
      }
      Object.assign(state, { drawing: true, moved: 0, last: place(event) });
      if (state.tool === "lasso") state.lasso = [toMap(...state.last)];
    });
    canvas.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (!state.drawing) {
        const under = nearest(...at);
        if (under !== state.under) {
          state.under = under;
          use.hover(under === null ? null : points.latents[under]);
          draw();
        }
        return;
      }
      const [dx, dy] = [at[0] - state.last[0], at[1] - state.last[1]];
      state.moved += Math.abs(dx) + Math.abs(dy);
      if (state.tool === "lasso") {
        if (Math.hypot(dx, dy) < 6) return;
        state.lasso.push(toMap(...at));
      } else {
        view.x -= dx / (side() * view.scale);
        view.y += dy / (side() * view.scale);
      }
      state.last = at;
      draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!state.drawing) return;
      state.drawing = false;
      if (state.moved < 5) {
        if (state.tool === "lasso") state.lasso = use.lasso;
        const under = nearest(...place(event));
        if (under !== null) use.open(points.latents[under]);
      } else if (state.tool === "lasso") {
        use.chosen(thinned(state.lasso));
      }
      draw();
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (steps) {
        view.x += (0.08 * steps[0]) / view.scale;
        view.y += (0.08 * steps[1]) / view.scale;
        draw();
      } else if (event.key === "+" || event.key === "=") zoom(1.3);
      else if (event.key === "-") zoom(1 / 1.3);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    new ResizeObserver(draw).observe(canvas);
    return {
      element: canvas,
      draw,
      zoom,
      tool: (name) => {
        state.tool = name;
        canvas.dataset.tool = name;
      },
      reset: () => {
        Object.assign(view, { scale: 1, x: 0, y: 0 });
        draw();
      },
    };
  }

  /** At most 60 corners, which an address can hold. */
  function thinned(corners) {
    const step = Math.max(1, Math.ceil(corners.length / 60));
    return corners.filter((_, i) => i % step === 0);
  }

  return { create };
})();
