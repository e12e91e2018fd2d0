"use strict";
/** Why a latent has its name, and whether streams agree: pairs, names, classes, values; each with its control. */
Page.latentEvidence = (() => {
  const { h, words, number, percent, plural } = Page.dom;

  function draw(detail, mode, params) {
    const streams = Page.concepts.names().filter((name) => Object.hasOwn(detail.modes[mode], name));
    const own = streams.map((stream) => ({ stream, ...detail.modes[mode][stream] }));
    return h(
      "div.panels",
      pairs(detail, mode),
      names(own, detail),
      classes(own),
      Page.latentValues.draw(detail, own, params),
    );
  }

  const panel = (title, help, ...content) => h("section.panel", h("h2", title), h("p.help", help), content);

  /** Agreement of each pair of streams, beside that of mispaired latents. */
  function pairs(detail, mode) {
    const own = detail.pairs.filter((pair) => pair.mode === mode);
    if (!own.length) return null;
    const measured = (key) => own.some((pair) => Number.isFinite(pair[key]));
    const figure = (pair, key, label) =>
      measured(key)
        ? h(
            "div.measured",
            h("span", label),
            h("b", number(pair[key], 2)),
            Page.figures.bar({
              value: pair[key],
              range: [0, 1],
              given: mode === "joint",
              label,
              controls: [{ name: "mispaired", value: pair[`${key}_mispaired`] }],
            }),
            h(
              "small",
              Number.isFinite(pair[`${key}_mispaired`])
                ? `chance ${number(pair[`${key}_mispaired`], 2)}`
                : "chance not measured",
            ),
          )
        : null;
    return panel(
      "Do the streams agree?",
      [
        "Overlap: of the images on which either is active, those on which both are. Agreement: how alike their classes are. ",
        h("i.tick-key"),
        " the same for mispaired latents of like frequency: chance.",
        mode === "joint" ? [" ", Page.figures.given()] : null,
      ],
      h(
        "ul.pairs",
        own.map((pair) =>
          h(
            "li",
            { class: mode === "joint" ? "is-given" : "" },
            h(
              "p",
              Page.figures.stream(pair.first),
              h("span.and", "and"),
              Page.figures.stream(pair.second),
              pair.shared ? h("span.badge.shared", "shared") : null,
              h(
                "small",
                `${plural(pair.images_both, "image")} in both${Number.isFinite(pair.q) ? `, q ${number(pair.q)}` : ""}`,
              ),
            ),
            figure(pair, "overlap", "overlap"),
            figure(pair, "agreement", "agreement"),
          ),
        ),
      ),
    );
  }

  /** The words that name the latent, with what supports them. */
  function names(own) {
    if (!own.some((one) => one.names?.length)) return null;
    return panel(
      "Its names, and why",
      "Words of captions that are more frequent where the latent is active. In brackets: images that support the word, and how many times chance that is.",
      h(
        "div.names",
        own.map((one) =>
          h(
            "div",
            Page.figures.stream(one.stream),
            one.names?.length
              ? h(
                  "ul",
                  one.names.slice(0, 8).map((name) =>
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
                      h(
                        "small",
                        [
                          plural(name.images, "image"),
                          Number.isFinite(name.lift) ? `${number(name.lift, 1)}×` : "",
                          Number.isFinite(name.q) ? `q ${number(name.q)}` : "",
                        ]
                          .filter(Boolean)
                          .join(" · "),
                      ),
                      name.guess ? h("span.badge.thin", { title: "few images support this name" }, "guess") : null,
                    ),
                  ),
                )
              : h("p.empty", "No word stands out."),
          ),
        ),
      ),
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

  return { draw, panel };
})();
