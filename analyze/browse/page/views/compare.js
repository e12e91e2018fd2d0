"use strict";
/** This report beside another: figures, latents that match, latents gained and lost. */
Page.compare = (() => {
  const { h, words, count, number, plural } = Page.dom;
  const SHOWN = 40;

  async function draw(main) {
    if (!Page.data.index().views.compare)
      throw new Page.Missing("This site compares no reports: make it again with --compare REPORT.");
    const { reports } = await Page.data.load("compare");
    const { params } = Page.route.read();
    const { report: other, select } = Page.bias.choice("With", reports, params);
    const match = Page.data.numbers(other.latents.match);
    const similarity = Page.data.numbers(other.latents.similarity);
    const lost = new Set(other.lost);
    const matched = [...match.keys()].filter((latent) => Number.isFinite(match[latent]) && !lost.has(latent));
    matched.sort((a, b) => similarity[b] - similarity[a]);
    main.append(
      h("div.list-head", h("h1", "Compare"), h("div.actions", select)),
      h(
        "p.lead",
        words(Page.data.index().title, 80, "b"),
        " beside ",
        words(other.name, 80, "b"),
        ": ",
        `${count(matched.length)} latents are the same concept, ${count(other.lost.length)} are lost, ${count(other.gained.length)} gained.`,
      ),
      h("p.help", words(other.location, 200)),
      (other.notes ?? []).map((note) => h("p.help", words(note, 400))),
      matches(other, matched, match, similarity),
      gone("Lost", "Concepts of this report that the other does not have.", other.lost, (latent) =>
        Page.cards.link(latent, {}),
      ),
      gone("Gained", "Concepts of the other report that this one does not have.", other.gained, (latent) => [
        words(named(other, latent) || "no name", 60, "b"),
        h("small", ` #${latent}`),
      ]),
      figures(other),
    );
  }

  /** Figures that both reports have: this one's bar with the other's as a tick. */
  function figures(other) {
    const key = (one) => JSON.stringify([one.section, one.text, one.mode, one.stream]);
    const theirs = new Map(other.headlines.map((one) => [key(one), one]));
    const both = Page.data.index().headlines.map((one) => [one, theirs.get(key(one))]);
    const measured = both.filter(([one, second]) => Number.isFinite(one.value) && Number.isFinite(second?.value));
    if (!measured.length) return null;
    const heads = [
      h("th", "figure"),
      h("th.figure", "this"),
      h("th"),
      h("th.figure", "other"),
      h("th.figure", "difference"),
    ];
    return h(
      "section.panel",
      h("h2", "Figures"),
      h("p.help", "Bar: this report. ", h("i.tick-key"), " the other."),
      h("div.wide-table", h("table.compared", h("thead", h("tr", heads)), h("tbody", measured.map(line)))),
    );
  }

  function line([one, second]) {
    const gain = second.value - one.value;
    const verdict = !one.better || gain === 0 ? "" : gain > 0 === (one.better === "higher") ? " better" : " worse";
    const controls = [{ name: "other", value: second.value }];
    return h(
      "tr",
      { class: one.given ? "is-given" : "" },
      h("td", Page.figures.named(one)),
      h("td.figure", number(one.value)),
      h("td", Page.figures.bar({ ...one, label: one.text, controls })),
      h("td.figure", number(second.value)),
      h("td.figure", gain > 0 ? "+" : "", number(gain), verdict ? h("small", verdict) : null),
    );
  }

  function matches(other, matched, match, similarity) {
    const item = (latent) => {
      const partner = match[latent];
      return h(
        "li",
        Page.cards.link(latent, { pictures: 4 }, h("small", `there #${partner} `, words(named(other, partner), 80))),
        h(
          "div.measured",
          h("b", number(similarity[latent], 2)),
          Page.figures.bar({
            value: similarity[latent],
            range: [0, 1],
            label: "similarity",
            controls: [{ name: "limit", value: other.limit }],
          }),
        ),
      );
    };
    const first = matched.slice(0, SHOWN);
    return h(
      "section.panel",
      h("h2", "The same concepts"),
      h(
        "p.help",
        `Matched one to one by their decoder rows, as sparc-analyze stability does. Bar: cosine; `,
        h("i.tick-key"),
        ` the limit that it must exceed. The ${count(first.length)} most alike of ${count(matched.length)}.`,
      ),
      h("ul.associations", first.map(item)),
    );
  }

  /** The names of the other report's latent. */
  function named(other, latent) {
    const names = other.details?.[latent]?.names ?? {};
    return [...new Set(Object.values(names))].filter(Boolean).join(" | ");
  }

  /** @param {(latent: number) => Node[]|Node} show what there is to see of a latent */
  function gone(title, help, latents, show) {
    const more = latents.length - SHOWN;
    return h(
      "section.panel",
      h("h2", title, h("span.count", " ", count(latents.length))),
      h("p.help", help),
      latents.length
        ? h(
            "ul.gone",
            latents.slice(0, SHOWN).map((latent) => h("li", show(latent))),
          )
        : h("p.empty", "None."),
      more > 0 ? h("p.help", `and ${plural(more, "more latent", "more latents")}`) : null,
    );
  }

  return { draw };
})();
