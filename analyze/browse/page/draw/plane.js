"use strict";
/** The map on its canvas: where points lie for a window of it, and how points, names and a lasso are painted. */
Page.plane = (() => {
  const LABELS = 40;
  const TRIED = 400; // names that are tried, so that a large map is not slow

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{x: Float32Array, y: Float32Array, latents: Uint32Array}} points in 0..1
   * @param {{scale: number, x: number, y: number}} view magnification, and the shift of the middle
   */
  function create(canvas, points, view) {
    let [wide, tall] = [0, 0];
    const side = () => (Math.min(wide, tall) - 40) * view.scale;

    const toScreen = (x, y) => [(x - 0.5 - view.x) * side() + wide / 2, (0.5 - y + view.y) * side() + tall / 2];
    const toMap = (px, py) => [(px - wide / 2) / side() + 0.5 + view.x, 0.5 + view.y - (py - tall / 2) / side()];
    const at = (i) => toScreen(points.x[i], points.y[i]);
    const seen = ([x, y]) => x > -9 && y > -9 && x < wide + 9 && y < tall + 9;
    const middle = () => [wide / 2, tall / 2];

    /** Points that are not kept are small and pale, below the others. */
    function paint({ kept, hue, title, order, under, lasso, closed }) {
      ({ width: wide, height: tall } = canvas.getBoundingClientRect());
      if (!wide) return;
      const ratio = window.devicePixelRatio || 1;
      [canvas.width, canvas.height] = [wide * ratio, tall * ratio];
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      const style = getComputedStyle(canvas);
      const colour = (name) => style.getPropertyValue(name);
      const size = Math.max(2.2, 34 / Math.sqrt(points.latents.length)) * Math.sqrt(view.scale) + 1;
      const radius = Math.min(9, size);
      const dot = (i, r) => {
        const place = at(i);
        if (!seen(place)) return;
        context.beginPath();
        context.arc(...place, r, 0, 7);
        context.fill();
      };
      context.globalAlpha = 0.7;
      context.fillStyle = colour("--line");
      points.latents.forEach((latent, i) => kept(latent) || dot(i, radius * 0.7));
      points.latents.forEach((latent, i) => {
        if (!kept(latent)) return;
        context.fillStyle = colour(hue(latent));
        dot(i, radius);
      });
      context.globalAlpha = 1;
      names(context, { kept, title, order, radius, ink: colour("--ink"), paper: colour("--paper") });
      context.strokeStyle = context.fillStyle = colour("--accent");
      context.lineWidth = 2;
      if (under !== null) ring(context, at(under), radius + 4);
      if (lasso.length > 1) outline(context, lasso, closed);
    }

    /** Names of the points that come first in `order`, where they cover no other name. */
    function names(context, { kept, title, order, radius, ink, paper }) {
      const taken = [];
      context.font = `12px ${getComputedStyle(canvas).fontFamily}`;
      context.textBaseline = "middle";
      context.lineWidth = 3;
      context.strokeStyle = paper;
      context.fillStyle = ink;
      const candidates = order.filter((i) => kept(points.latents[i]) && seen(at(i))).slice(0, TRIED);
      for (const i of candidates) {
        const text = title(points.latents[i]);
        if (!text || taken.length >= LABELS) continue;
        const [x, y] = at(i);
        const box = {
          left: x + radius + 3,
          right: x + radius + 9 + context.measureText(text).width,
          top: y - 9,
          bottom: y + 9,
        };
        const covers = (other) =>
          box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom;
        if (box.right > wide || taken.some(covers)) continue;
        taken.push(box);
        context.strokeText(text, box.left, y);
        context.fillText(text, box.left, y);
      }
    }

    function ring(context, place, radius) {
      context.beginPath();
      context.arc(...place, radius, 0, 7);
      context.stroke();
    }

    function outline(context, corners, closed) {
      context.beginPath();
      corners.forEach(([x, y]) => context.lineTo(...toScreen(x, y)));
      if (closed) context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fill();
    }

    /** The nearest point that is kept, within 18 pixels; null: none. */
    function nearest([px, py], kept) {
      let [best, least] = [null, 18 ** 2];
      points.latents.forEach((latent, i) => {
        const [x, y] = at(i);
        const distance = (x - px) ** 2 + (y - py) ** 2;
        if (distance < least && kept(latent)) [best, least] = [i, distance];
      });
      return best;
    }

    /** Magnify, so that what lies under `place` stays there. */
    function zoom(factor, place = middle()) {
      const before = toMap(...place);
      view.scale = Math.min(60, Math.max(0.5, view.scale * factor));
      const after = toMap(...place);
      view.x += before[0] - after[0];
      view.y += before[1] - after[1];
    }

    /** Shift by pixels. */
    function shift(dx, dy) {
      view.x -= dx / side();
      view.y += dy / side();
    }

    return { paint, nearest, zoom, shift, toMap };
  }

  return { create };
})();
