"use strict";
/** Pictures: tiles of a latent's sprite sheet, with heat maps over them. A picture that is not there shows its caption or number. */
Page.pictures = (() => {
  const { h, words, clean, number } = Page.dom;
  const STRIP = 9;

  /** A latent's sprite sheet: an address that is made from its number. */
  function sheet(latent) {
    const folder = String(Math.floor(latent / 1000)).padStart(3, "0");
    return `images/${folder}/${String(latent).padStart(5, "0")}.webp`;
  }

  /** Set a tile of a sheet as an element's background, whatever the element's size. */
  function show(element, latent, tile, columns, tiles) {
    const rows = Math.ceil(tiles / columns);
    const part = (at, of) => (of > 1 ? (100 * at) / (of - 1) : 0);
    element.style.backgroundImage = `url("${sheet(latent)}")`;
    element.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
    element.style.backgroundPosition = `${part(tile % columns, columns)}% ${part(Math.floor(tile / columns), rows)}%`;
  }

  /** What a picture shows, for those who do not see it. */
  function described(row) {
    const what = row.caption || row.classes.join(", ") || row.sample || `row ${row.row}`;
    return clean(what, 160);
  }

  /** A caption in which the words that name the latent are marked. */
  function marked(caption, detail, mode, limit = 400) {
    const streams = Object.values(detail.modes[mode] ?? {});
    const known = new Set(streams.flatMap((own) => own.names.map((name) => name.word.toLowerCase())));
    const parts = clean(caption, limit).split(/([\p{L}\p{N}]+)/u);
    return parts.map((part) => (known.has(part.toLowerCase()) ? h("mark", part) : part));
  }

  /** Two rows with one picture are one picture. */
  const identity = (row) => (row.image === null || row.image === undefined ? `row ${row.row}` : `image ${row.image}`);

  /** The picture of a row of a latent's details; where there is none, its caption. */
  function picture(detail, place, { stream = "", maps = false } = {}) {
    const row = detail.rows[place];
    if (!detail.sprite || row.tile < 0) {
      const text = row.caption ? marked(row.caption, detail, "independent", 100) : words(described(row), 60);
      return h("span.tile.without", h("span", text));
    }
    const element = h("span.tile", { role: "img", "aria-label": described(row) });
    show(element, detail.latent, row.tile, detail.sprite.columns, detail.sprite.tiles);
    heat(element, detail, place, stream, maps);
    return element;
  }

  /** Whether the site has any pictures. */
  const any = () => Page.data.index().images.format !== "";

  /** The heat map of a row's picture for a stream, if the site has it. */
  function mapOf(detail, place, stream) {
    const maps = Object.hasOwn(detail.maps ?? {}, stream) ? detail.maps[stream] : [];
    return maps.find((map) => map.row === place);
  }

  /** Draw where in the picture the latent is, for this stream, if the site has a map of it. */
  function heat(element, detail, place, stream, shown) {
    const map = mapOf(detail, place, stream);
    if (!map) return;
    const cells = Page.data.bytes(map.data);
    const canvas = h(shown ? "canvas.heat.shown" : "canvas.heat", {
      width: map.width,
      height: map.height,
      title: `largest value ${number(map.largest)}`,
    });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(map.width, map.height);
    cells.forEach((cell, i) => pixels.data.set(colour(cell / 255), i * 4));
    context.putImageData(pixels, 0, 0);
    element.append(canvas);
  }

  /** From clear over magenta to yellow: light rises with the value, so that it reads without colour too. */
  function colour(value) {
    const stops = [
      [70, 20, 90, 60],
      [150, 30, 120, 130],
      [225, 90, 60, 180],
      [252, 200, 60, 205],
      [255, 250, 170, 220],
    ];
    const at = Math.min(0.9999, Math.max(0, value)) * (stops.length - 1);
    const [low, high] = [stops[Math.floor(at)], stops[Math.floor(at) + 1]];
    return low.map((part, i) => Math.round(part + (high[i] - part) * (at % 1)));
  }

  /** The colour scale of heat maps, from 0 to 1. */
  function scale() {
    const canvas = h("canvas", { width: 128, height: 1, "aria-hidden": "true" });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(128, 1);
    for (let i = 0; i < 128; i += 1) pixels.data.set(colour(i / 127), i * 4);
    context.putImageData(pixels, 0, 0);
    const what = "of the stream's strongest place; for its strongest images";
    return h("span.scale", "0", canvas, number(1), h("small", what));
  }

  const sizes = new Map(); // columns and rows of a sheet, by latent: lists know no details

  /** The first pictures of a latent, for lists: the sheet itself says how many stand in a line. Null in a site without any. */
  function strip(latent, most = STRIP) {
    if (!any()) return null;
    const tiles = Page.concepts.value("tiles", latent);
    const element = h("span.strip", {
      role: "img",
      "aria-label": tiles > 0 ? `pictures of latent ${latent}` : "no pictures",
    });
    if (!(tiles > 0)) return element;
    const fill = ({ columns, rows }) => {
      for (let tile = 0; tile < Math.min(most, tiles); tile += 1) {
        const cell = h("i.tile");
        show(cell, latent, tile, columns, columns * rows);
        element.append(cell);
      }
    };
    if (sizes.has(latent)) {
      fill(sizes.get(latent));
      return element;
    }
    const image = new Image();
    image.onload = () => {
      const { tile } = Page.data.index().images;
      sizes.set(latent, {
        columns: Math.max(1, Math.round(image.naturalWidth / tile)),
        rows: Math.max(1, Math.round(image.naturalHeight / tile)),
      });
      fill(sizes.get(latent));
    };
    image.onerror = () => element.setAttribute("aria-label", "pictures are missing");
    image.src = sheet(latent);
    return element;
  }

  return { picture, marked, strip, scale, described, identity, mapOf };
})();
