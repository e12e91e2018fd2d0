"use strict";
/** A picture enlarged, with all that is known of it; arrow keys go through the row of pictures it came from. */
Page.zoom = (() => {
  const { h, words, number, button, replace, present } = Page.dom;

  /**
   * @param {object} detail of the latent
   * @param {{place: number, value: number, stream: string}[]} series pictures in their order
   * @param {number} at the one to begin with
   */
  function open(detail, series, at) {
    const mode = Page.route.read().params.get("mode") ?? "independent";
    let maps = Page.route.read().params.get("maps") === "1";
    const picture = h("div.zoom-picture");
    const facts = h("div.zoom-text");
    const heat = button("", () => show(at, !maps));
    const buttons = [
      button("‹ Previous", () => show(at - 1)),
      button("Next ›", () => show(at + 1)),
      heat,
      button("Close", () => dialog.close(), { class: "primary" }),
    ];
    const text = h("div.zoom-text", facts, h("div.zoom-buttons", buttons));
    const dialog = h("dialog.zoom", { "aria-label": "Picture" }, h("div.zoom-body", picture, text));

    function show(place, mapped = maps) {
      at = (place + series.length) % series.length;
      maps = mapped;
      const { stream } = series[at];
      heat.hidden = !Page.pictures.mapOf(detail, series[at].place, stream);
      heat.textContent = maps ? "Hide the heat map" : "Show the heat map";
      replace(picture, Page.pictures.picture(detail, series[at].place, { stream, maps }));
      const where = h(
        "p.zoom-where",
        { "aria-live": "polite" },
        Page.figures.stream(stream),
        ` ${at + 1} of ${series.length}`,
      );
      replace(facts, where, about(detail, series[at], mode));
    }

    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, j: 1, k: -1 }[event.key];
      if (step) {
        event.preventDefault();
        event.stopPropagation();
        show(at + step);
      }
    });
    show(at);
    present(dialog);
  }

  /** All that is known of a picture. */
  function about(detail, { place, value }, mode) {
    const row = detail.rows[place];
    const facts = Object.entries({ value: number(value), row: row.row, image: row.image, sample: row.sample });
    const known = facts.filter(([, text]) => text !== null && text !== "");
    const tags = row.classes.slice(0, 20).map((name) => words(name, 40, "span", { class: "tag" }));
    return [
      row.caption ? h("blockquote", Page.pictures.marked(row.caption, detail, mode)) : null,
      h(
        "dl",
        known.map(([name, text]) => [h("dt", name), h("dd", words(text, 120))]),
      ),
      tags.length ? h("p.tags", tags) : null,
    ];
  }

  /** A small picture with its value, which opens when it is clicked. */
  function shot(detail, series, at, { maps = false, ...attributes } = {}) {
    const { place, value, stream } = series[at];
    return h(
      "button",
      { type: "button", class: "shot", ...attributes, on: { click: () => open(detail, series, at) } },
      Page.pictures.picture(detail, place, { stream, maps }),
      h("small.value", number(value, 2)),
    );
  }

  return { shot };
})();
