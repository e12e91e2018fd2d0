"use strict";
/** A row of the list of latents, its columns, and the short table of the start page. */
Page.rows = (() => {
  const { h, words } = Page.dom;

  /** Columns that a person can choose; names and classes have a column of their own. */
  const choosable = () =>
    Page.data
      .index()
      .columns.filter((column) => !/^(name|guess|class):/.test(column.key) && !["dead", "tiles"].includes(column.key));

  /** The columns that the address asks for, else those shown at first. */
  function columns() {
    const asked = Page.route.read().params.get("cols");
    if (asked === null) return choosable().filter((column) => column.shown);
    const keys = new Set(asked.split(","));
    return choosable().filter((column) => keys.has(column.key));
  }

  /** @param {number} at the row's place in the list */
  function row(latent, chosen, at) {
    const marked = Page.keep.get(latent).marked;
    const figures = chosen.map((column) => {
      const given = column.mode === "joint" ? " is-given" : "";
      const attributes = {
        class: `cell${given}`,
        role: "gridcell",
        "data-key": column.key,
        "data-label": column.label,
      };
      return h("span", attributes, cell(column, latent));
    });
    return h(
      "div.row",
      { role: "row", "aria-rowindex": at + 2, "data-latent": latent },
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
        h(
          "a.open",
          { href: Page.route.link("latent", latent, Page.route.listing()), "aria-label": spoken(latent) },
          labels(latent),
        ),
      ),
      figures,
    );
  }

  const spoken = (latent) => [`latent ${latent}`, Page.concepts.title(latent)].filter(Boolean).join(", ");

  /** Names by stream; streams that agree share a line. */
  function labels(latent) {
    const all = Page.concepts.labels(latent);
    if (Page.concepts.dead(latent)) return h("span.labels.unnamed", "dead: active nowhere");
    if (!all.length) return h("span.labels.unnamed", "no name");
    const everywhere = all.length === 1 && all[0].streams.length === Page.concepts.names().length;
    const line = ({ text, streams, kind, share }) =>
      h(
        "span",
        { class: `label ${kind}` },
        everywhere ? null : streams.map(Page.figures.dot),
        words(text, 60),
        kind === "guess" ? h("abbr", { title: "few images support this name: a guess" }, "?") : null,
        kind === "class" ? h("small", Number.isFinite(share) ? `class, ${Page.dom.percent(share)}` : "class") : null,
      );
    return h("span.labels", all.slice(0, 3).map(line));
  }

  /** Who has the concept: a full dot for a stream that has it, an empty one for a stream that lacks it. */
  function who(latent) {
    const { text, value, having, names } = Page.concepts;
    const judged = value("shared", latent) === 1 || text("only", latent) || text("lacking", latent);
    if (!judged) {
      const thin = text("thin", latent);
      return h(
        "small",
        { class: thin ? "thin" : "", title: thin || "shared by some streams, or not beyond chance" },
        thin ? "rare" : "–",
      );
    }
    const has = having(latent, Page.route.read().params.get("is"));
    const label = has.length === names().length ? "all streams" : `only ${Page.dom.listed(has)}`;
    const mark = (stream) =>
      h("i", { class: `dot ${Page.figures.hue(stream)}${has.includes(stream) ? "" : " hollow"}` });
    return h("span.who", { role: "img", "aria-label": label, title: label }, names().map(mark));
  }

  /** A figure; where it has a scale, a bar below it with a tick for chance. */
  function cell(column, latent) {
    if (column.key === "shared") return who(latent);
    const { texts, numbers } = Page.concepts.column(column.key);
    if (texts) return words(Page.concepts.text(column.key, latent) || "–", 40);
    const value = numbers[latent];
    const shown = h("b", Page.concepts.format(value, column.kind, column.group));
    if (!["share", "signed"].includes(column.kind) || column.group === "size") return shown;
    const chance = column.chance ? Page.concepts.value(column.chance, latent) : NaN;
    const figure = {
      value,
      range: column.kind === "share" ? [0, 1] : [-1, 1],
      stream: column.stream,
      label: column.label,
    };
    return [
      shown,
      Page.figures.bar({ ...figure, given: column.mode === "joint", controls: [{ name: "chance", value: chance }] }),
    ];
  }

  /** A column's label; the dot says of which stream it is, the mark that it is joint. */
  const heading = (column) =>
    h(
      "span",
      column.stream ? Page.figures.dot(column.stream) : null,
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
