"use strict";
/** Where latents lie on the map, and which a lasso holds. A lasso is text of the address: corners in thousandths. */
Page.places = (() => {
  let points = null;

  /** @returns {Promise<{method, latents, x, y}|null>} null: the site has no map */
  async function load() {
    if (!points && Page.data.index().views.map) {
      const file = await Page.data.load("map");
      const [latents, x, y] = [file.latents, file.x, file.y].map(Page.data.numbers);
      points = { ...file, latents, x, y };
    }
    return points;
  }

  const text = (corners) => corners.map(([x, y]) => `${Math.round(x * 1000)}_${Math.round(y * 1000)}`).join("!");

  const corners = (lasso) =>
    lasso
      .split("!")
      .map((corner) => corner.split("_").map((part) => Number(part) / 1000))
      .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));

  /** The latents within a lasso. @returns {Set<number>} */
  function inside(lasso) {
    const polygon = corners(lasso);
    const set = new Set();
    for (let i = 0; points && i < points.latents.length; i += 1) {
      if (holds(polygon, points.x[i], points.y[i])) set.add(points.latents[i]);
    }
    return set;
  }

  /** By the crossings of a ray, even or odd. */
  function holds(polygon, x, y) {
    let odd = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
      const [[xi, yi], [xj, yj]] = [polygon[i], polygon[j]];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
    }
    return odd;
  }

  return { load, inside, text, corners };
})();
