"use strict";
/** A row of the list of latents, its columns, and the short table of the start page. */
Page.rows = (() => {
  const { h, words } = Page.dom;

  /** Columns that a person can choose; names and classes have a column of their own. */
  const choosable = () =>
    Page.data
      .index()
      .columns.filter(
        (column) => !/^(name|guess|class):/.test(column.key) && !["dead", "tiles", "shared"].includes(column.key),
      );

  /** The columns that the address asks for, else those shown at first. */
  function columns() {
    const asked = Page.route.read().params.get("cols");
    if (asked === null) return choosable().filter((column) => column.shown);
    const keys = new Set(asked.split(","));
    return choosable().filter((column) => keys.has(column.key));
  }

  /** @param {number} at the row's place in the list */
  function row(latent, chosen, at) {
    const { concepts } = Page;
    const marked = Page.keep.get(latent).marked;
    return h(
      "a.row",
      {
        role: "row",
        "aria-rowindex": at + 2,
        href: Page.route.link("latent", latent, Page.route.listing()),
        "data-latent": latent,
        tabindex: -1,
      },
      h(
        "span.cell.number",
        { role: "rowheader" },
        String(latent),
        marked ? h("i.star", { title: "bookmarked" }, "★") : null,
      ),
      h(
        "span.cell.concept",
        { role: "gridcell" },
        Page.pictures.strip(latent),
        labels(latent),
        concepts.text("thin", latent) ? h("small.thin", { title: concepts.text("thin", latent) }, "rare") : null,
      ),
      chosen.map((column) =>
        h(
          "span",
          {
            class: `cell ${column.kind}${column.mode === "joint" ? " is-given" : ""}`,
            role: "gridcell",
            "data-key": column.key,
            "data-label": column.label,
          },
          cell(column, latent),
        ),
      ),
    );
  }

  /** Names by stream; streams that agree share a line. */
  function labels(latent) {
    const all = Page.concepts.labels(latent);
    if (Page.concepts.dead(latent)) return h("span.labels.dead", "dead: active nowhere");
    if (!all.length) return h("span.labels.unnamed", "no name");
    const everywhere = all.length === 1 && all[0].streams.length === Page.concepts.names().length;
    return h(
      "span.labels",
      all
        .slice(0, 3)
        .map((label) =>
          h(
            "span",
            { class: `label ${label.kind}` },
            everywhere
              ? null
              : label.streams.map((name) => h("i", { class: `dot ${Page.figures.hue(name)}`, title: name })),
            words(label.text, 60),
            label.kind === "guess" ? h("abbr", { title: "few images support this name: a guess" }, "?") : null,
            label.kind === "class" ? h("small", "class") : null,
          ),
        ),
    );
  }

  function cell(column, latent) {
    const full = Page.concepts.column(column.key);
    if (full.texts) return words(Page.concepts.text(column.key, latent) || "–", 40);
    const value = full.numbers[latent];
    const shown = h("b", Page.concepts.format(value, column.kind, column.group));
    if (column.kind !== "share" && column.kind !== "signed") return shown;
    const chance = column.chance ? Page.concepts.value(column.chance, latent) : NaN;
    return [
      shown,
      Page.figures.bar({
        value,
        range: column.kind === "share" ? [0, 1] : [-1, 1],
        stream: column.stream,
        given: column.mode === "joint",
        label: column.label,
        controls: [{ name: "chance", value: chance }],
      }),
    ];
  }

  /** A column's label; the dot says of which stream it is, the mark that it is joint. */
  const heading = (column) =>
    h(
      "span",
      column.stream ? h("i", { class: `dot ${Page.figures.hue(column.stream)}`, title: column.stream }) : null,
      words(column.label, 40),
      column.mode === "joint" ? h("small.mode", { title: "given in part by construction" }, "joint") : null,
    );

  /** A short table without scrolling, for the start page. */
  function preview(latents) {
    const chosen = columns();
    return h(
      "div.scroll.preview",
      { role: "grid", "aria-label": "First latents", vars: { "--columns": chosen.length } },
      h(
        "div.head",
        { role: "row" },
        h("span.cell", { role: "columnheader" }, "latent"),
        h("span.cell.concept", { role: "columnheader" }, "concept"),
        chosen.map((column) => h("span.cell", { role: "columnheader", title: column.help }, heading(column))),
      ),
      h(
        "div.rows",
        { role: "rowgroup" },
        Array.from(latents, (latent, at) => row(latent, chosen, at)),
      ),
    );
  }

  return { row, preview, heading, columns, choosable };
})();
