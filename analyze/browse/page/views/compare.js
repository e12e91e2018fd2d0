"use strict";
/** This report beside another: figures, latents that match, latents gained and lost. */
Page.compare = (() => {
  const { h, words, count, number, plural, percent } = Page.dom;
  const SHOWN = 40;

  async function draw(main) {
    if (!Page.data.index().views.compare)
      throw new Page.Missing("This site compares no reports: make it again with --compare REPORT.");
    const { reports } = await Page.data.load("compare");
    const { params } = Page.route.read();
    const at = Math.min(reports.length - 1, Math.max(0, Number(params.get("report")) || 0));
    const other = reports[at];
    const match = Page.data.numbers(other.latents.match);
    const similarity = Page.data.numbers(other.latents.similarity);
    const matched = [];
    for (let i = 0; i < match.length; i += 1) if (Number.isFinite(match[i])) matched.push(i);
    matched.sort((a, b) => similarity[b] - similarity[a]);
    const details = new Map(Object.entries(other.details ?? {}));
    main.append(
      h(
        "div.list-head",
        h("h1", "Compare"),
        h(
          "div.actions",
          Page.bias.picker(
            "With",
            reports.map((one, i) => [String(i), one.name]),
            String(at),
            (value) => Page.route.set({ report: value }),
          ),
        ),
      ),
      h(
        "p.lead",
        words(Page.data.index().title, 80, "b"),
        " beside ",
        words(other.name, 80, "b"),
        ": ",
        `${count(matched.length)} latents match (${percent(matched.length / Math.max(1, match.length))}), ${count(other.lost.length)} are lost, ${count(other.gained.length)} gained.`,
      ),
      h("p.help", words(other.location, 200)),
      figures(other),
      matches(matched, match, similarity, details),
      gone("Lost", "Latents of this report without a match in the other.", other.lost, null),
      gone("Gained", "Latents of the other report without a match in this one.", other.gained, details),
    );
  }

  /** Figures that both reports have, this one's bar with the other's as a tick. */
  function figures(other) {
    const key = (one) => JSON.stringify([one.section, one.text, one.mode, one.stream, one.first, one.second]);
    const theirs = new Map(other.headlines.map((one) => [key(one), one]));
    const both = Page.data
      .index()
      .headlines.filter((one) => Number.isFinite(one.value) && Number.isFinite(theirs.get(key(one))?.value));
    if (!both.length) return null;
    return h(
      "section.panel",
      h("h2", "Figures"),
      h("p.help", "Bar: this report. ", h("i.tick-key"), " the other."),
      h(
        "div.wide-table",
        h(
          "table.compared",
          h(
            "thead",
            h("tr", [
              h("th", "figure"),
              h("th.figure", "this"),
              h("th"),
              h("th.figure", "other"),
              h("th.figure", "difference"),
            ]),
          ),
          h(
            "tbody",
            both.map((one) => {
              const second = theirs.get(key(one));
              const gain = second.value - one.value;
              const better = one.better ? gain > 0 === (one.better === "higher") : null;
              const of = [one.mode, one.stream].filter(Boolean).join(", ");
              return h(
                "tr",
                { class: one.given ? "is-given" : "" },
                h("td", words(one.text, 80), of ? h("small", ` ${Page.dom.clean(of, 60)}`) : null),
                h("td.figure", number(one.value)),
                h(
                  "td",
                  Page.figures.bar({
                    ...one,
                    label: one.text,
                    controls: [{ name: "other", value: second.value }],
                  }),
                ),
                h("td.figure", number(second.value)),
                h(
                  "td.figure",
                  gain > 0 ? "+" : "",
                  number(gain),
                  better === null || gain === 0 ? null : h("small", better ? " better" : " worse"),
                ),
              );
            }),
          ),
        ),
      ),
    );
  }

  function matches(matched, match, similarity, details) {
    return h(
      "section.panel",
      h("h2", "Matched latents"),
      h(
        "p.help",
        `The assignment of sparc-analyze stability; the ${count(Math.min(SHOWN, matched.length))} most alike of ${count(matched.length)}.`,
      ),
      h(
        "ul.associations",
        matched
          .slice(0, SHOWN)
          .map((latent) =>
            h(
              "li",
              h(
                "a.other",
                { href: Page.route.link("latent", latent) },
                Page.pictures.strip(latent, 4),
                h(
                  "span",
                  words(Page.concepts.title(latent) || "no name", 40, "b"),
                  h("small", ` #${latent} ↔ #${match[latent]}`),
                  h("br"),
                  h("small", words(named(details.get(String(match[latent]))), 80)),
                ),
              ),
              h(
                "div.measured",
                h("b", number(similarity[latent], 2)),
                Page.figures.bar({ value: similarity[latent], range: [0, 1], label: "similarity" }),
              ),
            ),
          ),
      ),
    );
  }

  const named = (detail) => [...new Set(Object.values(detail?.names ?? {}))].filter(Boolean).join(" | ");

  /** @param details of the other report's latents; null: the latents are this report's, which have pages */
  function gone(title, help, latents, details) {
    return h(
      "section.panel",
      h("h2", title, h("span.count", " ", count(latents.length))),
      h("p.help", help),
      latents.length
        ? h(
            "ul.gone",
            latents
              .slice(0, SHOWN)
              .map((latent) =>
                h(
                  "li",
                  details
                    ? [h("b", words(named(details.get(String(latent))) || "no name", 60)), h("small", ` #${latent}`)]
                    : h(
                        "a.other",
                        { href: Page.route.link("latent", latent) },
                        Page.pictures.strip(latent, 3),
                        h("span", words(Page.concepts.title(latent) || "no name", 40, "b"), h("small", ` #${latent}`)),
                      ),
                ),
              ),
          )
        : h("p.empty", "None."),
      latents.length > SHOWN
        ? h("p.help", `and ${plural(latents.length - SHOWN, "more latent", "more latents")}`)
        : null,
    );
  }

  return { draw };
})();
