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
    const all = detail.pairs.filter((pair) => pair.mode === "independent");
    if (!all.length) return null;
    const keys = ["overlap", "agreement"].filter((key) => all.some((pair) => Number.isFinite(pair[key])));
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
            `${plural(pair.images_both, "image")} in both`,
            Number.isFinite(pair.q) ? `, q ${number(pair.q)}` : "",
          ),
        ),
        keys.map((key) => beside(key, pair[key], pair[`${key}_mispaired`])),
      );
    const help = [
      "When each stream selects its own latents. Overlap: of the images on which either is active, those on which both are. ",
      keys.includes("agreement") ? "Agreement: how alike their classes are. " : "",
      h("i.tick-key"),
      " the same for mispaired latents of like frequency: chance.",
    ];
    return panel("Do the streams agree?", help, h("ul.pairs", all.map(row)));
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
    if (!own.some((one) => one.names.length)) return null;
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
        all.length ? h("ul", all.slice(0, 8).map(item)) : h("p.empty", "No word stands out."),
      );
    return panel(
      "Its names, and why",
      "Words that captions of its strongest images have more often than others: in how many of these images, how many times chance that is, and q, the share of false names to expect.",
      h("div.names", own.map(inStream)),
    );
  }

  /** The most frequent classes as bars of the streams side by side, with the share of all rows as a tick. */
  function classes(own) {
    const excess = new Map();
    for (const one of own)
      for (const entry of one.classes ?? [])
        excess.set(entry.name, Math.max(excess.get(entry.name) ?? -1, entry.share - entry.base));
    if (!excess.size) return null;
    const top = [...excess]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 10)
      .map(([name]) => name);
    const most = Math.max(...own.flatMap((one) => (one.classes ?? []).map((entry) => entry.share)), 0.01);
    const bar = (one, name) => {
      const entry = one.classes?.find((other) => other.name === name);
      return h(
        "div.class-bar",
        h("i", { class: `dot ${Page.figures.hue(one.stream)}`, title: one.stream }),
        entry
          ? Page.figures.bar({
              value: entry.share,
              range: [0, most],
              stream: one.stream,
              label: `${name}, ${one.stream}`,
              controls: [{ name: "all rows", value: entry.base }],
            })
          : h("span.bar.blank"),
        h(
          "small",
          { title: entry ? `${plural(entry.rows, "row")}; of all rows ${percent(entry.base)}` : null },
          entry ? percent(entry.share) : "–",
        ),
      );
    };
    const purity = own.filter((one) => one.purity || Number.isFinite(one.monosemanticity));
    return panel(
      "Classes of its images",
      ["Share of its rows that carry the class. ", h("i.tick-key"), " the share of all rows: the base rate."],
      h(
        "ul.classes",
        top.map((name) =>
          h(
            "li",
            h(
              "a.class-name",
              { href: Page.route.link("latents", "", new URLSearchParams({ class: name })) },
              words(name, 40),
            ),
            h(
              "div",
              own.map((one) => bar(one, name)),
            ),
          ),
        ),
      ),
      purity.length
        ? h(
            "ul.facts",
            purity.map((one) =>
              h(
                "li",
                Page.figures.stream(one.stream),
                h(
                  "small",
                  [
                    one.purity
                      ? `purity ${percent(one.purity.share)}, ${number(one.purity.lift, 1)}× the base rate`
                      : "",
                    Number.isFinite(one.monosemanticity) ? `monosemanticity ${number(one.monosemanticity, 2)}` : "",
                  ]
                    .filter(Boolean)
                    .join(" · "),
                ),
              ),
            ),
          )
        : null,
    );
  }

  return { sections, panel };
})();
