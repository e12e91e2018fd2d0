"use strict";
/** Why a latent has its name, and whether streams agree: pairs, names, classes, values; each with its control. */
Page.latentEvidence = (() => {
  const { h, words, count, number, percent, plural } = Page.dom;

  /** The sections, each a panel or null. */
  function sections(detail, mode, params) {
    const streams = Page.concepts.names().filter((name) => Object.hasOwn(detail.modes[mode], name));
    const own = streams.map((stream) => ({ stream, ...detail.modes[mode][stream] }));
    return [pairs(detail), names(own), classes(own), Page.latentValues.draw(detail, own, params)];
  }

  const panel = (title, help, ...content) => h("section.panel", h("h2", title), h("p.help", help), content);

  /** How alike the latent is in each pair of streams, beside mispaired latents: when each selects its own. */
  function pairs(detail) {
    if (!detail.pairs.length) return null;
    const keys = ["overlap", "agreement"].filter((key) => detail.pairs.some((pair) => Number.isFinite(pair[key])));
    const row = (pair) =>
      h(
        "li",
        h(
          "p",
          Page.figures.stream(pair.first),
          h("span.and", "and"),
          Page.figures.stream(pair.second),
          pair.shared ? h("span.badge.shared", "shared") : null,
          h(
            "small",
            `${plural(pair.images_both, "image")} in both, by their first row`,
            Number.isFinite(pair.q) ? `, q ${number(pair.q)}` : "",
          ),
        ),
        keys.map((key) => beside(key, pair[key], pair[`${key}_mispaired`])),
      );
    const help = [
      "When each stream selects its own latents. Overlap: of the images on whose first row either is active, those where both are. ",
      keys.includes("agreement") ? "Agreement: how alike their classes are. " : "",
      h("i.tick-key"),
      " the same for mispaired latents of like frequency: chance.",
    ];
    return panel("Do the streams agree?", help, h("ul.pairs", detail.pairs.map(row)));
  }

  /** A figure with chance beside it. */
  function beside(label, value, chance) {
    const controls = [{ name: "mispaired", value: chance }];
    return h(
      "div.measured",
      h("span", label),
      h("b", number(value, 2)),
      Page.figures.bar({ value, range: [0, 1], label, controls }),
      h("small", Number.isFinite(chance) ? `chance ${number(chance, 2)}` : "chance not measured"),
    );
  }

  /** The words that name the latent, with what supports them. */
  function names(own) {
    if (!Page.data.index().report.captions) {
      return panel("Its names, and why", "Names come from captions, which the rows of this report do not have.");
    }
    const support = ({ images, of, lift, q }) => [
      Number.isFinite(of) ? `in ${count(images)} of ${plural(of, "image")}` : plural(images, "image"),
      Number.isFinite(lift) ? `${number(lift, 1)}× chance` : "",
      Number.isFinite(q) ? `q ${number(q)}` : "",
    ];
    const item = (name) =>
      h(
        "li",
        { class: name.guess ? "guess" : "" },
        h(
          "a",
          {
            href: Page.route.link("latents", "", new URLSearchParams({ q: name.word })),
            title: "latents with this word",
          },
          words(name.word, 40),
        ),
        name.guess ? h("span.badge.thin", { title: "few images support this name" }, "guess") : null,
        h("small", support(name).filter(Boolean).join(" · ")),
      );
    const inStream = ({ stream, names: all }) =>
      h(
        "div",
        Page.figures.stream(stream),
        all.length
          ? h("ul", all.slice(0, 8).map(item))
          : h("p.empty", "No word is more frequent in its captions than by chance."),
      );
    return panel(
      "Its names, and why",
      "Words that captions of its strongest images have more often than others: in how many of these images, how many times chance that is, and q, the share of false names to expect.",
      h("div.names", own.map(inStream)),
    );
  }

  /** The most frequent classes as bars of the streams side by side, with the share of all rows as a tick. */
  function classes(own) {
    const entries = own.flatMap((one) => one.classes);
    if (!entries.length) return null;
    const excess = new Map();
    for (const { name, share, base } of entries) excess.set(name, Math.max(excess.get(name) ?? -1, share - base));
    const top = [...excess].sort((a, b) => b[1] - a[1]).slice(0, 10);
    const largest = Math.max(...entries.map((entry) => entry.share));
    const end = [0.1, 0.2, 0.5].find((one) => one >= largest) ?? 1;
    const item = ([name]) =>
      h(
        "li",
        h(
          "a.class-name",
          { href: Page.route.link("latents", "", new URLSearchParams({ class: name })) },
          words(name, 40),
        ),
        h(
          "div",
          own.map((one) => classBar(one, name, end)),
        ),
      );
    return panel(
      "Classes of its images",
      ["Share of its rows that carry the class. ", h("i.tick-key"), " the share of all rows: the base rate."],
      h(
        "ul.classes",
        top.map(item),
        h("li", h("span"), h("div.class-bar.axis", h("span"), h("small", h("span", "0"), h("span", percent(end))))),
      ),
      facts(own),
    );
  }

  function classBar({ stream, classes: all }, name, end) {
    const dot = Page.figures.dot(stream);
    const entry = all.find((one) => one.name === name);
    if (!entry)
      return h(
        "div.class-bar",
        dot,
        h("span.bar.blank"),
        h("small", { title: "not among its most frequent classes" }, "–"),
      );
    const { share, base, rows } = entry;
    const controls = [{ name: "all rows", value: base }];
    const bar = Page.figures.bar({ value: share, range: [0, end], stream, label: `${name}, ${stream}`, controls });
    return h(
      "div.class-bar",
      dot,
      bar,
      h("small", { title: `${plural(rows, "row")}; of all rows ${percent(base)}` }, percent(share)),
    );
  }

  /** Purity and monosemanticity, stream by stream. */
  function facts(own) {
    const known = own.filter((one) => one.purity || Number.isFinite(one.monosemanticity));
    if (!known.length) return null;
    const said = ({ purity, monosemanticity }) => [
      purity ? `purity ${percent(purity.share)}, ${number(purity.lift, 1)}× the base rate` : "",
      Number.isFinite(monosemanticity) ? `images ${number(monosemanticity, 2)} more alike than any two` : "",
    ];
    const item = (one) => h("li", Page.figures.stream(one.stream), h("small", said(one).filter(Boolean).join(" · ")));
    return h("ul.facts", known.map(item));
  }

  return { sections, panel };
})();
